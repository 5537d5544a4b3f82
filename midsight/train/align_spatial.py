"""Spatial alignment: a PE-Core becomes a PE-Spatial (PE paper, section 5.2).

The student begins as the start with LayerScale, DropPath and hidden patches. It learns two things of the same augmented
picture at once: the start's own tokens behind a middle layer, and which tokens belong together. The smaller sizes learn
both from a larger PE-Spatial instead. Nothing but LayerScale is added to the weights.

All that is random in a step follows from the seed and the step, so a run that was stopped and resumed goes through the
same numbers as one that was not. Under torchrun each process holds a whole copy.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from midsight import pe
from midsight.checkpoints import Pretrained, open_pretrained, save_pretrained
from midsight.data.datasets import Dataset, open_dataset
from midsight.data.stream import Order
from midsight.errors import ConfigError, TrainingError
from midsight.pe.blocks import normal_parameter
from midsight.pe.headless import headless, headless_config, headless_weights
from midsight.threads import keep_freed_memory
from midsight.train import losses, optim, state
from midsight.train.config import as_metadata
from midsight.train.distributed import StopRequest, World, average_gradients, collect, total, world
from midsight.train.logs import Log, Report
from midsight.train.loop import Outcome
from midsight.train.masking import draw_blocks, hide_patches
from midsight.train.pair import autocast
from midsight.train.revision import revision
from midsight.train.spatial_config import SpatialConfig
from midsight.train.spatial_data import Prepare, SpatialBatch, SpatialBatches, spatial_batches
from midsight.train.spatial_teachers import LocalityTeacher, open_locality, scene_masks
from midsight.train.steps import Pace, take_steps

_MASK_TOKEN_STD = 0.02


class Student(nn.Module):
    """The tower that is trained, the vector that stands for hidden patches and, for a wider teacher, a linear map.

    All passes go through `forward`; only the tower is saved.
    """

    def __init__(self, tower: pe.VisionTransformer, teacher_width: int | None) -> None:
        super().__init__()
        self.tower = tower
        self.mask_token = normal_parameter(tower.width, std=_MASK_TOKEN_STD)
        if teacher_width is not None:
            self.match = nn.Linear(tower.width, teacher_width)

    def forward(self, pixels: Tensor, hidden: Tensor | None) -> Tensor:
        """Images (B, 3, S, S) to patch tokens behind the last block (B, N, W); `hidden` bool (B, N)."""
        if hidden is None:
            return self.tower.forward_features(pixels, strip_cls_token=True)
        with hide_patches(self.tower, hidden, self.mask_token):
            return self.tower.forward_features(pixels, strip_cls_token=True)


def train_spatial(
    config: SpatialConfig,
    folder: str | Path,
    *,
    resume: bool = False,
    report: Report | None = None,
    locality: LocalityTeacher | None = None,
) -> Outcome:
    """Aligns as a recipe says, in the processes that torchrun started, or in this one alone.

    Args:
        config: `model.start` and `data.source` must name weights and pictures.
        folder: for checkpoints, logs and, at the end, `model/`, which `midsight.load` opens.
        resume: go on from the newest checkpoint in the folder.
        report: called with each record of the log, in the first process.
        locality: a teacher of one's own, in place of the recipe's.

    Raises:
        ConfigError: a recipe that cannot be.
        InputError: data that cannot be read.
        CheckpointError, UnknownModelError: weights that cannot be had.
        TrainingError: a loss that is no number; a folder that holds a run already, without `resume`; a checkpoint of
            another configuration or of other data.
        OutputError: a checkpoint cannot be written; the one before is intact.
    """
    if not config.model.start or not config.data.source:
        raise ConfigError("alignment needs weights to start from (--from) and pictures (--data)")
    with world(config.run.device) as here:
        if here.device.type == "cpu":
            keep_freed_memory()
        if config.data.batch_size % here.size:
            raise ConfigError(f"data.batch_size {config.data.batch_size}: not a multiple of {here.size} processes")
        scenes = locality is None and config.locality.teacher == "scenes" and not config.teacher.start
        dataset = open_dataset(config.data.source, needs_captions=False, labels=scenes)
        return SpatialRun(config, dataset, Path(folder), here, report, locality).run(resume)


class SpatialRun:
    """One run in one process; `run` does it all."""

    def __init__(
        self,
        config: SpatialConfig,
        dataset: Dataset,
        folder: Path,
        here: World,
        report: Report | None = None,
        locality: LocalityTeacher | None = None,
    ) -> None:
        self.config, self.dataset, self.folder, self.here, self.report = config, dataset, folder, here, report
        self.rows = config.data.batch_size // here.size
        found = open_pretrained(config.model.start, dtype=torch.float32)
        self.preprocess = replace(found.preprocess, image_size=config.model.image_size)
        torch.manual_seed(config.seed)
        student = start_student(found, config)
        self.larger = self._larger()
        width = self.larger.width if self.larger is not None and config.teacher.tokens else None
        self.student = Student(student, width).to(here.device)
        self.student.requires_grad_(True)
        for name, parameter in student.named_parameters():
            parameter.requires_grad_(not name.startswith(config.model.frozen or ("\0",)))
        student.set_grad_checkpointing(config.run.grad_checkpointing)
        self.middle = self._middle(found)
        if self.middle is not None and found.vision.stem != "patch" and _is_frozen(student.stem):
            share_stem(student, self.middle)
        self.locality = None if self.larger is not None else locality or self._locality()
        self._check_losses()
        self.optimizer = optim.build_optimizer(self.student.named_parameters(), config.optim, student.layers, 0)
        self.progress = state.Progress(data=(None,) * here.size)

    def run(self, resume: bool = False) -> Outcome:
        """Trains to the end, or until it is told to stop; see `train_spatial`."""
        found = state.enter(self.folder, resume, self.here)
        if found is not None:
            digest = self.config.digest()
            self.progress = state.read_progress(found, digest, self.dataset.fingerprint, self.here.size)
            state.read_tensors(found, state.tensors(self.student, self.optimizer), self.here)
        self.log = Log(self.folder if self.here.first else None, self.report if self.here.first else None)
        try:
            with StopRequest(self.here, self.config.run.grace_seconds) as stop:
                if not self._train(stop):
                    return Outcome(self.progress.step, False, stop.signal, rank=self.here.rank)
            return Outcome(self.progress.step, True, model=self._export(), rank=self.here.rank)
        finally:
            self.log.close()

    # What there is ---------------------------------------------------------------------------------------------------

    def _middle(self, found: Pretrained) -> pe.VisionTransformer | None:
        """The frozen start up to the layer that is learned from."""
        if self.larger is not None or not self.config.semantic.weight:
            return None
        tower = headless(found, self.config.model.image_size)
        tower.truncate(self.config.semantic.layer)
        return _frozen(tower, self.here.device)

    def _larger(self) -> pe.VisionTransformer | None:
        if not self.config.teacher.start:
            return None
        found = open_pretrained(self.config.teacher.start, dtype=torch.float32)
        return _frozen(headless(found, self.config.model.image_size), self.here.device)

    def _locality(self) -> LocalityTeacher | None:
        return open_locality(self.config.locality, self.preprocess, self.here.device)

    def _check_losses(self) -> None:
        if self.larger is None and self.middle is None and self.locality is None:
            raise ConfigError("nothing to learn from: semantic.weight is 0 and there is no teacher of locality")
        student, larger = self.student.tower, self.larger
        if larger is not None and larger.patch_size != student.patch_size:
            raise ConfigError(
                f"teacher.start has patches of {larger.patch_size} pixels, the student of {student.patch_size}: at "
                f"{self.config.model.image_size} pixels their tokens do not stand at the same places"
            )

    def _batches(self) -> SpatialBatches:
        config, here = self.config, self.here
        grid = config.model.image_size // self.student.tower.patch_size
        objects = grid if self.locality is scene_masks else None
        prepare = Prepare(self.preprocess, config.augment, config.seed, objects)
        order = Order(config.seed, rank=here.rank, ranks=here.size)
        place = self.progress.data[here.rank]
        return spatial_batches(self.dataset, prepare, self.rows, order, config.data.workers, place)

    # Steps -----------------------------------------------------------------------------------------------------------

    def _train(self, stop: StopRequest) -> bool:
        self.batches = self._batches()
        self._stream: Iterator[SpatialBatch] = iter(self.batches)
        run = self.config.run
        pace = Pace(self.config.steps, self.config.data.batch_size, run.log_every, run.save_every)
        try:
            return take_steps(self, pace, stop)
        finally:
            self._stream.close()  # type: ignore[attr-defined]  # a generator: its threads leave

    @property
    def done(self) -> int:
        return self.progress.step

    def step(self, stop: StopRequest) -> dict[str, float]:
        return self._step(next(self._stream), stop)

    def advance(self) -> None:
        self._place = self.batches.state()
        step = self.progress.step + 1
        self.progress = replace(self.progress, step=step, samples=step * self.config.data.batch_size)

    def skipped(self) -> Mapping[str, int]:
        return self.batches.stream.skipped

    def _step(self, batch: SpatialBatch, stop: StopRequest) -> dict[str, float]:
        config, here, step = self.config, self.here, self.progress.step
        torch.manual_seed((config.seed * 1_000_003 + step) * 4096 + here.rank)
        self.student.train()
        rate = optim.learning_rate(config.optim, step, config.steps)
        optim.set_learning_rate(self.optimizer, rate)
        self.optimizer.zero_grad(set_to_none=True)
        sums: dict[str, float] = {}
        micro = min(config.data.micro_batch, self.rows)
        for start in range(0, self.rows, micro):
            rows = slice(start, min(start + micro, self.rows))
            parts = self._losses(batch.part(rows, here.device), rows)
            share = (rows.stop - rows.start) / self.rows
            (torch.stack(list(parts.values())).sum() * share).backward()
            for name, value in parts.items():
                sums[name] = sums.get(name, 0.0) + share * float(value.detach())
        average_gradients(self.student.parameters(), here)
        length = optim.clip_gradients(self.student.parameters(), config.optim.clip)
        told = float(stop.signal is not None)
        values = torch.tensor([*sums.values(), told], device=here.device)
        means = (total(values, here) / here.size).tolist()
        figures = dict(zip((*sums, "stop"), means, strict=True))
        loss = sum(means[:-1])
        if not math.isfinite(loss) or not math.isfinite(length):
            shown = ", ".join(f"{name} {figures[name]:.4g}" for name in sums)
            kept = state.latest(self.folder)
            raise TrainingError(
                f"step {step + 1}: the loss is no number ({shown}; gradient {length:.4g}) on "
                f"{', '.join(batch.keys[:5])}. The last good state is {kept or 'the start'}. Lower optim.lr, or look "
                "at these pictures, and resume"
            )
        self.optimizer.step()
        return {"loss": loss, **figures, "lr": rate, "gradient": length}

    def _losses(self, batch: SpatialBatch, rows: slice) -> dict[str, Tensor]:
        """Weighted losses of some rows, by name."""
        config, side = self.config, self.config.model.image_size // self.student.tower.patch_size
        bf16 = config.run.precision == "bf16"
        grid = (side, side)
        with torch.no_grad(), autocast(self.here.device, bf16):
            middle = None if self.middle is None else _tokens(self.middle, batch.pixels)
            larger = None if self.larger is None else _tokens(self.larger, batch.pixels)
            masks = None if self.locality is None else self.locality(batch, grid)
        with autocast(self.here.device, bf16):
            tokens = self.student(batch.pixels, self._hidden(rows, grid))
            matched = self.student.match(tokens) if hasattr(self.student, "match") else None
        found: dict[str, Tensor] = {}
        if middle is not None:
            found["semantic"] = config.semantic.weight * losses.semantic_loss(tokens, middle)
        if masks is not None:
            weight, temperature = config.locality.weight, config.locality.temperature
            found["locality"] = weight * losses.locality_loss(tokens, masks, temperature)
        if larger is not None and config.teacher.pairs:
            found["pairs"] = config.teacher.pairs * losses.locality_loss(tokens, larger, temperature=None)
        if larger is not None and matched is not None:
            found["tokens"] = config.teacher.tokens * losses.semantic_loss(matched, larger)
        return found

    def _hidden(self, rows: slice, grid: tuple[int, int]) -> Tensor | None:
        """Patches that the student does not see, bool (B, N), on the student's device."""
        hide = self.config.hide
        if not hide.ratio:
            return None
        places = range(self.here.size * rows.start + self.here.rank, self.here.size * rows.stop, self.here.size)
        return draw_blocks(self.config.seed, self.progress.step, places, grid, hide.ratio, hide.block)

    # Files -----------------------------------------------------------------------------------------------------------

    def save(self) -> None:
        if hasattr(self, "_place"):
            self.progress = replace(self.progress, data=tuple(collect(self._place, self.here)))
        values, digest = state.tensors(self.student, self.optimizer), self.config.digest()
        fingerprint, keep = self.dataset.fingerprint, self.config.run.keep
        state.save(self.folder, values, self.progress, digest, fingerprint, self.here, keep)

    def _export(self) -> Path:
        tower, target = self.student.tower, self.folder / "model"
        if self.here.first:
            metadata = {
                "steps": self.progress.step,
                "samples": self.progress.samples,
                "recipe": as_metadata(self.config),
                "seed": self.config.seed,
                "revision": revision(),
            }
            values = {key: value.detach().cpu() for key, value in tower.state_dict().items()}
            config = replace(tower.config, drop_path=0.0)
            save_pretrained(
                target, values, name=self.folder.name, vision=config, text=None, preprocess=self.preprocess,
                metadata=metadata,
            )  # fmt: skip
        collect(None, self.here)
        return target


def start_student(found: Pretrained, config: SpatialConfig) -> pe.VisionTransformer:
    """The start as a student: its weights, its positions at the size of the run, and LayerScale as the recipe says.

    Raises:
        ConfigError: as `headless_config`.
    """
    wanted = config.model
    scale = wanted.layer_scale or None
    tower = pe.VisionTransformer(headless_config(found.vision, wanted.image_size, scale, wanted.drop_path))
    weights = headless_weights(found.state_dict, tower)
    if scale is not None:
        weights = {key: value for key, value in weights.items() if not key.endswith("gamma")}
    lacking = set(tower.load_state_dict(weights, strict=False).missing_keys)
    assert all(key.endswith("gamma") for key in lacking)
    return tower


def share_stem(student: pe.VisionTransformer, teacher: pe.VisionTransformer) -> None:
    """One pass of a frozen trunk for both: who asks second about the same pixels gets what the first one got."""
    forward, kept = student.stem.forward, list[tuple[Tensor, Tensor]]()

    def remembered(pixels: Tensor) -> Tensor:
        if not kept or kept[0][0] is not pixels:
            with torch.no_grad():
                kept[:] = [(pixels, forward(pixels))]
        return kept[0][1]

    student.stem.forward = remembered  # type: ignore[method-assign, assignment]
    teacher.stem = student.stem


def _is_frozen(module: nn.Module) -> bool:
    return not any(parameter.requires_grad for parameter in module.parameters())


def _frozen(tower: pe.VisionTransformer, device: torch.device) -> pe.VisionTransformer:
    return tower.to(device).eval().requires_grad_(False)


def _tokens(tower: pe.VisionTransformer, pixels: Tensor) -> Tensor:
    return tower.forward_features(pixels, strip_cls_token=True)
