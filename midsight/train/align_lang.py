"""Training with a language model: PerceptionLM's three stages, and PE-Lang, which is the tower that comes out of them.

A step takes so many rows over all processes, packs them (`midsight.plm.packing`) and learns from the mean over all
labelled tokens of all of them, however they are packed and shared out: gradients are summed over packs and processes
and divided once. All that is random in a step follows from the seed and the step, so a run that was stopped and
resumed goes through the same numbers as one that was not.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from midsight.checkpoints import save_pretrained
from midsight.configs import PreprocessConfig
from midsight.data.conversations import RowStream, open_rows
from midsight.errors import ConfigError, TrainingError
from midsight.plm import PLM
from midsight.plm.folders import save_parts
from midsight.plm.own import PARTS as PREFIXES
from midsight.plm.packing import Pack, loss_sum, packed_logits, packs
from midsight.plm.parts import Parts
from midsight.plm.rows import LearntRow, RowReader
from midsight.threads import keep_freed_memory
from midsight.train import lang_parts, optim, state
from midsight.train.config import as_metadata
from midsight.train.distributed import (
    StopRequest,
    World,
    average_gradients,
    collect,
    exchange_gradients,
    local,
    most,
    shard_blocks,
    total,
    world,
)
from midsight.train.lang_config import LangConfig
from midsight.train.logs import Log, Report, resident_gib
from midsight.train.loop import Outcome
from midsight.train.pair import autocast
from midsight.train.revision import revision
from midsight.train.steps import Pace, take_steps

_FROZEN = "frozen"  # a checksum of what is not trained, beside the tensors of a checkpoint


class Learner(nn.Module):
    """A PLM whose every pass goes through `forward`, so that the whole can be sharded."""

    def __init__(self, plm: PLM) -> None:
        super().__init__()
        self.plm = plm
        parts = plm.vision_model, plm.vision_projector
        self._tower, self._projector = (any(p.requires_grad for p in part.parameters()) for part in parts)

    def train(self, mode: bool = True) -> "Learner":
        """As usual, but a frozen tower drops no branches."""
        super().train(mode)
        self.plm.vision_model.train(mode and self._tower)
        return self

    def forward(self, batch: Pack, passes: int, at_once: int) -> Tensor:
        """The sum of the losses of all predicted tokens.

        Args:
            batch: tiles float32 (M, 3, S, S).
            passes: of the tower, as many as the process with most tiles needs: sharded ones must go together.
            at_once: tiles in one pass.
        """
        plm = self.plm
        embeds = plm.token_embedding(batch.input_ids)  # L, D
        features = self._encode(batch.tiles, passes, at_once)  # all visual tokens, D, and then those of empty passes
        places = batch.input_ids == plm.config.image_token_id
        embeds = embeds.masked_scatter(places[:, None], features.to(embeds.dtype))
        embeds = embeds + 0.0 * features[:1].to(embeds.dtype)  # every process has a gradient for every part
        return loss_sum(packed_logits(plm.language_model, embeds, batch), batch.targets)

    def _encode(self, tiles: Tensor | None, passes: int, at_once: int) -> Tensor:
        side = self.plm.config.tile
        blank = self.plm.token_embedding.weight.new_zeros(1, 3, side, side, dtype=torch.float32)
        pieces = [] if tiles is None else list(tiles.split(at_once))
        pieces += [blank] * (passes - len(pieces))
        found = []
        for piece in pieces:
            with torch.set_grad_enabled(self._tower and torch.is_grad_enabled()):
                tokens = self.plm.vision_model.forward_features(piece, norm=True, strip_cls_token=True)
            with torch.set_grad_enabled((self._tower or self._projector) and torch.is_grad_enabled()):
                found.append(self.plm.vision_projector(tokens).flatten(0, 1))  # tiles x tokens, D
        return torch.cat(found)


def train_lang(
    config: LangConfig, folder: str | Path, *, resume: bool = False, report: Report | None = None
) -> Outcome:
    """Trains as a recipe says, in the processes that torchrun started, or in this one alone.

    Args:
        config: must name weights to begin with, and rows.
        folder: for checkpoints, logs and, at the end, `model/`, which `PLM.from_pretrained` opens, and `tower/`, which
            `midsight.load` opens, where that is asked for.
        resume: go on from the newest checkpoint in the folder.
        report: called with each record of the log, in the first process.

    Raises:
        ConfigError: a recipe that cannot be.
        InputError: rows that cannot be read, or not one that can be used.
        CheckpointError, UnknownModelError: weights that cannot be had.
        TrainingError: a loss that is no number; a folder that holds a run already, without `resume`; a checkpoint of
            another configuration, of other data or of another start.
        OutputError: a checkpoint cannot be written; the one before is intact.
    """
    if not config.data.sets:
        raise ConfigError("a run needs rows: --data, or [[data.sets]] in the recipe")
    _ = config.starts
    with world(config.run.device) as here:
        if here.device.type == "cpu":
            keep_freed_memory()
        if config.data.batch_size % here.size:
            raise ConfigError(f"data.batch_size {config.data.batch_size}: not a multiple of {here.size} processes")
        return LangRun(config, Path(folder), here, report).run(resume)


class LangRun:
    """One run in one process; `run` does it all."""

    def __init__(self, config: LangConfig, folder: Path, here: World, report: Report | None = None) -> None:
        self.config, self.folder, self.here, self.report = config, folder, here, report
        self.rows = config.data.batch_size // here.size
        self.bf16 = config.run.precision == "bf16"
        files = [open_rows(row.rows, row.root or None, row.weight) for row in config.data.row_sets()]
        self.plm = lang_parts.start_plm(config)
        assert self.plm.tokenizer is not None
        reader = RowReader(self.plm.config, self.plm.tokenizer, config.data.max_length, config.data.style)
        self.stream = RowStream(
            files, reader, seed=config.seed, rank=here.rank, ranks=here.size, workers=config.data.workers
        )
        self._build()
        self.progress = state.Progress(data=(None,) * here.size)

    def _build(self) -> None:
        """Puts the model in place: on its device, sharded, with an optimiser."""
        run, plm = self.config.run, self.plm
        torch.manual_seed(self.config.seed)  # adapters
        lang_parts.prepare(plm, self.config)
        lang_parts.choose_attention(plm, self.config.language.attention, self.here.device)
        if run.grad_checkpointing:
            plm.vision_model.set_grad_checkpointing()
            plm.language_model.activation_checkpointing_enable({"use_reentrant": False})  # type: ignore[operator]
        self.learner = Learner(plm).to(self.here.device).train()
        self._checksum = self._frozen_sum()
        if self.here.size > 1 and run.sharding == "full":
            shard_blocks(self.learner, _blocks(plm), self.here, self.bf16)
        self.optimizer = lang_parts.build_optimizer(self.learner, self.config)

    def run(self, resume: bool = False) -> Outcome:
        """Trains to the end, or until it is told to stop; see `train_lang`."""
        found = state.enter(self.folder, resume, self.here)
        if found is not None:
            self._resume(found)
        self.log = Log(self.folder if self.here.first else None, self.report if self.here.first else None)
        run = self.config.run
        pace = Pace(self.config.steps, self.config.data.batch_size, run.log_every, run.save_every)
        self._stream: Iterator[LearntRow] = iter(self.stream)
        try:
            with StopRequest(self.here, run.grace_seconds) as stop:
                if not take_steps(self, pace, stop):
                    return Outcome(self.progress.step, False, stop.signal, rank=self.here.rank)
            return Outcome(self.progress.step, True, None, self._export(), self.here.rank, self._left_out())
        finally:
            self._stream.close()  # type: ignore[attr-defined]  # a generator: its threads leave
            self.log.close()

    # Steps -----------------------------------------------------------------------------------------------------------

    @property
    def done(self) -> int:
        return self.progress.step

    def advance(self) -> None:
        self._place = self.stream.state()
        step = self.progress.step + 1
        self.progress = replace(self.progress, step=step, samples=step * self.config.data.batch_size)

    def skipped(self) -> Mapping[str, int]:
        counts: dict[str, int] = {}
        for each in collect(dict(self.stream.skipped), self.here):
            for reason, count in each.items():
                counts[reason] = counts.get(reason, 0) + count
        return counts

    def step(self, stop: StopRequest) -> dict[str, float]:
        """One step of the optimiser; figures are over all processes."""
        config, here, step = self.config, self.here, self.progress.step
        torch.manual_seed((config.seed * 1_000_003 + step) * 4096 + here.rank)  # DropPath
        rate = config.optim.rate(step, config.steps)
        optim.set_learning_rate(self.optimizer, rate)
        self.optimizer.zero_grad(set_to_none=True)
        sums, keys = self._backward(float(stop.signal is not None))
        loss, learnt, tokens, made, told = total(sums, here).tolist()
        average_gradients(self.learner.parameters(), here)
        for parameter in self.learner.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(here.size / max(1.0, learnt))
        length = optim.clip_gradients(self.learner.parameters(), config.optim.clip)
        loss /= max(1.0, learnt)
        if not math.isfinite(loss) or not math.isfinite(length):
            self._fail(loss, length, keys)
        self.optimizer.step()
        sizes = {"batch": config.data.batch_size, "tokens": tokens, "learnt": learnt, "packs": made}
        return {"loss": loss, "lr": rate, "gradient": length, **sizes, "memory_gib": self._memory(), "stop": told}

    def _memory(self) -> float:
        on_gpu = self.here.device.type == "cuda"
        return torch.cuda.max_memory_allocated(self.here.device) / 2**30 if on_gpu else resident_gib()

    def _backward(self, told: float) -> tuple[Tensor, list[str]]:
        """Gradients of this process's rows, summed and not yet divided.

        Returns:
            sums (loss, learnt tokens, all tokens, packs, `told`) and the keys of the rows that gave no number.
        """
        data, at_once = self.config.data, self.config.run.tiles_at_once
        waiting = packs(islice(self._stream, self.rows), data.pack_length or data.max_length)
        sums = torch.zeros(5, dtype=torch.float64)
        sums[4] = told
        broken: list[str] = []
        current, more = next(waiting, None), 1
        while more:
            following = next(waiting, None)
            tiles = 0 if current is None or current.tiles is None else len(current.tiles)
            asked = torch.tensor([-(-tiles // at_once), int(following is not None)], device=self.here.device)
            passes, more = most(asked, self.here).tolist()
            exchange_gradients(self.learner, last=not more)
            batch = (current or _EMPTY).to(self.here.device)
            with autocast(self.here.device, self.bf16):
                loss = self.learner(batch, max(1, passes), at_once)
            loss.backward()
            if not torch.isfinite(loss.detach()):
                broken += batch.keys
            real = current is not None
            sums[:4] += torch.tensor(
                [float(loss.detach()), len(batch.targets), len(batch.input_ids) * real, real], dtype=torch.float64
            )
            current = following
        return sums.to(self.here.device, torch.float64 if self.here.device.type != "mps" else torch.float32), broken

    def _fail(self, loss: float, length: float, keys: list[str]) -> None:
        """Keeps the weights of before this step where they are sound, and says where it was seen."""
        sound = all(collect(all(bool(torch.isfinite(local(p)).all()) for p in self.learner.parameters()), self.here))
        seen = [key for found in collect(keys, self.here) for key in found]
        if sound and self.progress.step:
            self.save()
        kept = state.latest(self.folder)
        where = f"rows {', '.join(seen[:5])}" if seen else "the gradients"
        raise TrainingError(
            f"step {self.progress.step + 1}: loss {loss:g}, gradient {length:g}; first seen in {where}. The last good "
            f"state is {kept or 'the start'}. Lower optim.lr, or look at these rows, and resume"
        )

    # Files -----------------------------------------------------------------------------------------------------------

    def _tensors(self) -> dict[str, Tensor]:
        """What a checkpoint holds: what is trained, its optimiser state, and a checksum of the rest."""
        trained = {name for name, parameter in self.learner.named_parameters() if parameter.requires_grad}
        found = state.tensors(self.learner, self.optimizer)
        kept = {name: value for name, value in found.items() if name in trained or name.startswith("optimizer.")}
        return kept | {_FROZEN: self._checksum.clone()}

    def _frozen_sum(self) -> Tensor:
        frozen = [p.detach() for p in self.learner.parameters() if not p.requires_grad]
        sums = [weight.double().abs().sum() if weight.device.type != "mps" else weight.abs().sum() for weight in frozen]
        return torch.stack(sums).sum().cpu() if sums else torch.zeros((), dtype=torch.float64)

    def _resume(self, checkpoint: Path) -> None:
        fingerprint, here = self.stream.fingerprint, self.here
        self.progress = state.read_progress(checkpoint, self.config.digest(), fingerprint, here.size)
        into = self._tensors()
        state.read_tensors(checkpoint, into, here)
        if not torch.equal(into[_FROZEN], self._checksum):
            raise TrainingError(
                f"{checkpoint}: the weights that are not trained are others than when the run began; put "
                f"{self.config.starts} back as it was, or start anew"
            )
        place = self.progress.data[here.rank]
        if place is not None:
            self.stream.resume(place)

    def save(self) -> None:
        if hasattr(self, "_place"):
            self.progress = replace(self.progress, data=tuple(collect(self._place, self.here)))
        digest, fingerprint, keep = self.config.digest(), self.stream.fingerprint, self.config.run.keep
        state.save(self.folder, self._tensors(), self.progress, digest, fingerprint, self.here, keep)

    def _left_out(self) -> dict[str, Any]:
        """Rows that were left out, by reason, with an example of each."""
        counts, examples = self.skipped(), dict[str, str]()
        for each in collect(self.stream.examples, self.here):
            examples = each | examples
        return {"left_out": {reason: [count, examples[reason]] for reason, count in counts.items()}}

    def _export(self) -> Path:
        """The trained model, adapters merged, and its tower alone where that is asked for."""
        run, target = self.config.run, self.folder / "model"
        values = _gathered(self.plm, self.here)
        if self.here.first:
            values = lang_parts.merged(values, self.config)
            assert self.plm.config.vision is not None
            vision = replace(self.plm.config.vision, drop_path=0.0)
            metadata = {
                "steps": self.progress.step,
                "samples": self.progress.samples,
                "recipe": as_metadata(self.config),
                "seed": self.config.seed,
                "revision": revision(),
            }
            config = replace(self.plm.config, vision=vision, metadata={**self.plm.config.metadata, "trained": metadata})
            tower, projector, language = (
                {key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)}
                for prefix in PREFIXES
            )
            if config.tie_word_embeddings:
                language.pop("lm_head.weight", None)
            dtype = torch.bfloat16 if run.save_dtype == "bf16" else None
            save_parts(Parts(config, tower, projector, language), self.plm.tokenizer, target, dtype)
            if run.keep_tower:
                preprocess = PreprocessConfig(vision.image_size, interpolation="bicubic")
                save_pretrained(
                    self.folder / "tower", tower, name=self.folder.name, vision=vision, text=None,
                    preprocess=preprocess, metadata=metadata, dtype=dtype,
                )  # fmt: skip
        collect(None, self.here)
        return target


_EMPTY = Pack((), torch.zeros(1, dtype=torch.long), torch.zeros(1, dtype=torch.long), torch.zeros(0, dtype=torch.long),
              torch.zeros(0, dtype=torch.long), None)  # fmt: skip
"""For a process that has run out of packs before another one."""


def _blocks(plm: PLM) -> list[nn.Module]:
    """What is sharded piece by piece: the tower's blocks and the language model's, its longest list of modules."""
    lists = [module for module in plm.language_model.modules() if isinstance(module, nn.ModuleList)]
    return [*plm.vision_model.transformer.resblocks, *max(lists, key=len)]


def _gathered(plm: PLM, here: World) -> dict[str, Tensor]:
    """All weights on the CPU of the first process; one at a time is whole on the others."""
    found = {}
    for name, value in plm.state_dict().items():
        whole = value.full_tensor() if isinstance(value, DTensor) else value
        if here.first:
            found[name] = whole.detach().cpu().clone()
    return found
