"""The training loop: stages of growing resolution, exact large batches, checkpoints that a kill cannot harm.

All that is random in a step follows from the seed, the step and the row, so a run that was stopped and resumed goes
through the same numbers as one that was not.
"""

import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from midsight import pe
from midsight.checkpoints import save_pretrained
from midsight.errors import TrainingError
from midsight.train import adapt, losses, optim, state
from midsight.train.config import Stage, TrainConfig, preprocess_of, total_steps, towers
from midsight.train.distill import Teacher, check_widths
from midsight.train.distributed import (
    StopRequest,
    World,
    average_gradients,
    collect,
    exchange_gradients,
    local,
    shard,
    total,
)
from midsight.train.logs import Log, Report, resident_gib
from midsight.train.masking import draw_masks, masked_rows
from midsight.train.pair import Pair, autocast, compile_blocks
from midsight.train.plan import PEAK_FLOPS, flops_per_sample, rows_of
from midsight.train.source import Batch, Batches, Source

Evaluate = Callable[[Pair, int], Mapping[str, float]]  # the pair, the resolution -> figures
Weights = dict[str, Tensor]
Finish = Callable[[Weights], tuple[Weights, dict[str, Any]]]  # last weights -> those to save, figures


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    step: int
    finished: bool
    signal: int | None = None  # that stopped it
    model: Path | None = None  # folder that `midsight.load` opens
    rank: int = 0  # of the process that says so
    figures: Mapping[str, Any] | None = None  # of the finish, in the first process


class Trainer:
    """One run in one process; `run` does it all."""

    def __init__(
        self,
        config: TrainConfig,
        model: pe.CLIP,
        source: Source,
        folder: Path,
        here: World,
        teacher: Teacher | None = None,
        evaluate: Evaluate | None = None,
        finish: Finish | None = None,
        report: Report | None = None,
    ) -> None:
        """
        Args:
            config: resolved (see `midsight.train.config.resolve`).
            model: the weights to begin with, at the first stage's resolution.
            folder: of the run; made where it is missing.
            teacher: for distillation; None trains contrastively.
            finish: called in the first process behind the last step, on the CPU; names as the model has them then.
        """
        self.config, self.source, self.folder, self.here = config, source, folder, here
        self.teacher, self.evaluate, self.finish = teacher, evaluate, finish
        self.rows = rows_of(config, here.size)
        self.bf16 = config.run.precision == "bf16"
        self.steps = total_steps(config)
        self.progress = state.Progress(data=(None,) * here.size)
        self._build(model)
        self._report = report

    def run(self, resume: bool = False) -> Outcome:
        """Trains to the end, or until it is told to stop.

        Args:
            resume: go on from the newest checkpoint in the folder; without one, begin.

        Raises:
            TrainingError: a loss that is no number; a checkpoint of another configuration or of other data; a folder
                that holds a run already, without `resume`.
            ConfigError: the teacher's embeddings are to be the student's, and are of another width.
            OutputError: a checkpoint cannot be written; the one before is intact.
        """
        found = state.enter(self.folder, resume, self.here)
        if found is not None:
            self._resume(found)
        self.log = Log(self.folder if self.here.first else None, self._report if self.here.first else None)
        try:
            with StopRequest(self.here, self.config.run.grace_seconds) as stop:
                for index in range(self.progress.stage, len(self.config.stages)):
                    self._enter(index)
                    if not self._stage(self.config.stages[index], stop):
                        return Outcome(self.progress.step, False, stop.signal, rank=self.here.rank)
            model, figures = self._export()
            return Outcome(self.progress.step, True, None, model, self.here.rank, figures)
        finally:
            self.log.close()

    # Stages ----------------------------------------------------------------------------------------------------------

    def _build(self, model: pe.CLIP) -> None:
        """Puts a model in place: on its device, compiled, sharded, with an optimiser."""
        run = self.config.run
        model.set_grad_checkpointing(run.grad_checkpointing)
        torch.manual_seed(self.config.seed)
        adapt.prepare(model, self.config)
        self.pair = Pair(model, self.config.steps.mask).to(self.here.device).train()
        self.model = model
        if run.compile:
            compile_blocks(model)
        if self.here.size > 1 and run.sharding == "full":
            shard(self.pair, model, self.here, self.bf16)
        self.optimizer = optim.build_optimizer(
            self.pair.named_parameters(), self.config.optim, model.visual.layers, len(model.transformer.resblocks)
        )

    def _enter(self, index: int) -> None:
        """The weights and the optimiser's averages move on to a stage's resolution."""
        size = self.config.stages[index].image_size
        if index != self.progress.stage:
            self.progress = replace(self.progress, stage=index, stage_step=0)
        vision, text = towers(self.config, size)
        if self.model.visual.config == vision:
            return
        values = state.whole(state.tensors(self.pair, self.optimizer))
        self._build(pe.CLIP(vision, text))
        values = state.resample(values, vision.grid, vision.use_cls_token)
        state.put(values, state.tensors(self.pair, self.optimizer))

    def _resume(self, checkpoint: Path) -> None:
        self.progress = state.read_progress(checkpoint, self.config.digest(), self.source.fingerprint, self.here.size)
        vision, text = towers(self.config, self.config.stages[self.progress.stage].image_size)
        if self.model.visual.config != vision:
            self._build(pe.CLIP(vision, text))
        state.read_tensors(checkpoint, state.tensors(self.pair, self.optimizer), self.here)

    def _stage(self, stage: Stage, stop: StopRequest) -> bool:
        """Trains at one resolution; False where it was told to stop."""
        steps = stage.samples // self.config.data.batch_size
        if self.progress.stage_step >= steps:
            return True
        batches = self.source.open(stage.image_size, self.rows, self.here, self.progress.data[self.here.rank])
        stream = iter(batches)
        try:
            return self._steps(stage, steps, batches, stream, stop)
        finally:
            if isinstance(stream, Generator):
                stream.close()  # its threads leave

    def _steps(self, stage: Stage, steps: int, batches: Batches, stream: Iterator[Batch], stop: StopRequest) -> bool:
        run = self.config.run
        self._clock, self._since = time.perf_counter(), self.progress.step
        while self.progress.stage_step < steps:
            figures = self._step(next(stream), stage, stop)
            self._advance(batches)
            step, last = self.progress.step, self.progress.stage_step == steps
            if step % run.log_every == 0 or last:
                self._log(figures, stage, batches)
            if self.evaluate is not None and run.evaluate_every and (step % run.evaluate_every == 0 or last):
                self.log.write({"step": step, **self.evaluate(self.pair.eval(), stage.image_size)})
                self.pair.train()
            told = figures["stop"] > 0
            if told:
                stop.heard()
            if told or step % run.save_every == 0 or last:
                with stop.saving:
                    self._save()
            if told:
                return step == self.steps
        return True

    def _advance(self, batches: Batches) -> None:
        now = self.progress
        self._place = batches.state()
        self.progress = replace(
            now,
            step=now.step + 1,
            stage_step=now.stage_step + 1,
            samples=now.samples + self.config.data.batch_size,
        )

    def _save(self) -> Path:
        if hasattr(self, "_place"):
            self.progress = replace(self.progress, data=tuple(collect(self._place, self.here)))
        values = state.tensors(self.pair, self.optimizer)
        digest, fingerprint = self.config.digest(), self.source.fingerprint
        return state.save(self.folder, values, self.progress, digest, fingerprint, self.here, self.config.run.keep)

    def _export(self) -> tuple[Path, dict[str, Any]]:
        """The trained pair under its published names, and the figures of its finish."""
        values, figures = state.whole(dict(self.model.state_dict())), dict[str, Any]()
        vision, text = self.model.visual.config, self.model.text_config
        target = self.folder / "model"
        if self.here.first:
            if self.finish is not None:
                values, figures = self.finish(values)
            metadata = {"seed": self.config.seed, "steps": self.progress.step, "samples": self.progress.samples}
            metadata |= {key: figures[key] for key in ("start", "alpha") if key in figures}
            name, preprocess = self.config.model.name or self.folder.name, preprocess_of(self.config, vision.image_size)
            save_pretrained(
                target, values, name=name, vision=vision, text=text, preprocess=preprocess, metadata=metadata
            )
        collect(None, self.here)
        return target, figures

    # Steps -----------------------------------------------------------------------------------------------------------

    def _step(self, batch: Batch, stage: Stage, stop: StopRequest) -> dict[str, float]:
        """One step of the optimiser; figures are means over all processes."""
        config, step = self.config, self.progress.step
        torch.manual_seed((config.seed * 1_000_003 + step) * 4096 + self.here.rank)
        media = batch.videos if batch.images is None else batch.images
        assert media is not None
        media, texts = media.to(self.here.device, non_blocking=True), batch.texts.to(self.here.device)
        rate = optim.learning_rate(config.optim, step, self.steps)
        optim.set_learning_rate(self.optimizer, rate)
        self.optimizer.zero_grad(set_to_none=True)
        groups = self._groups(batch) if config.loss.same_text else None
        main, mask, embeddings = self._backward(media, texts, groups)
        average_gradients(self.pair.parameters(), self.here)
        length = optim.clip_gradients(self.pair.parameters(), config.optim.clip)
        flag = float(stop.signal is not None)
        sums = total(torch.tensor([float(main), float(mask), flag], device=self.here.device), self.here)
        loss, mask_loss, stopping = (sums / self.here.size).tolist()
        if not all(torch.isfinite(torch.tensor([loss, mask_loss, length]))):
            self._fail(loss, mask_loss, length, embeddings, batch, stage)
        self.optimizer.step()
        losses.cap_logit_scale(self.model.logit_scale, config.loss.max_logit_scale)
        scale = float(losses.scale_of(self.model.logit_scale.detach(), config.loss.max_logit_scale))
        figures = {"loss": loss, "lr": rate, "logit_scale": scale, "gradient": length, "stop": stopping}
        return figures | ({"mask_loss": mask_loss} if config.steps.mask else {})

    def _groups(self, batch: Batch) -> Tensor:
        return torch.tensor(losses.group_ids(batch.captions), device=self.here.device)

    def _backward(
        self, media: Tensor, texts: Tensor, groups: Tensor | None
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        """Gradients of this process's share of the batch, in micro batches."""
        config, micro = self.config, min(self.config.data.micro_batch, self.rows)
        pieces = [slice(start, min(start + micro, self.rows)) for start in range(0, self.rows, micro)]
        tokens: dict[int, Tensor | None] = {}
        teacher = self._teach(media, texts, pieces)

        def encode(piece: int) -> tuple[Tensor, Tensor]:
            rows = pieces[piece]
            given = teacher[1][rows] if teacher is not None and config.loss.teacher_texts else None
            with autocast(self.here.device, self.bf16):
                images, encoded, kept = self.pair(media[rows], texts[rows] if given is None else None)
            tokens[piece] = kept if torch.is_grad_enabled() else None  # the first pass would keep the whole batch
            return images.float(), (encoded if given is None else given).float()

        def loss(images: Tensor, encoded: Tensor) -> Tensor:
            scale = losses.scale_of(self.model.logit_scale, config.loss.max_logit_scale)
            if teacher is None:
                return losses.contrastive(images, encoded, scale, groups)
            likeness = losses.distillation(images, encoded, scale, *teacher, config.loss.teacher_logit_scale)
            if not config.loss.teacher_features:
                return likeness
            return likeness + config.loss.teacher_features * losses.regression(images, teacher[0])

        def auxiliary(piece: int) -> Tensor | None:
            return self._mask_loss(media, pieces[piece], tokens.pop(piece)) if config.steps.mask else None

        return losses.backward_in_pieces(
            encode, len(pieces), loss, auxiliary, lambda last: exchange_gradients(self.pair, last)
        )

    def _teach(self, media: Tensor, texts: Tensor, pieces: list[slice]) -> tuple[Tensor, Tensor] | None:
        if self.teacher is None:
            return None
        with torch.no_grad(), autocast(self.here.device, self.bf16):
            pairs = [self.teacher(media[piece], texts[piece]) for piece in pieces]
        images, encoded = (torch.cat([pair[side] for pair in pairs]).float() for side in (0, 1))
        check_widths(self.config.loss, images.shape[1], encoded.shape[1], self.model.text_config.output_dim)
        return images, encoded

    def _mask_loss(self, media: Tensor, piece: slice, tokens: Tensor | None) -> Tensor | None:
        """This piece's part of the mask regularisation of the whole batch.

        Sharded processes must run the same passes: where another process has a masked row in this piece and this one
        has none, it masks its first row and gives it no weight.
        """
        assert tokens is not None
        config, here, rows = self.config.mask, self.here, self.rows
        chosen = masked_rows(self.config.data.batch_size, config.fraction)
        if not any(piece.start <= row % rows < piece.stop for row in chosen):
            return None
        start = here.rank * rows + piece.start
        mine = [row for row in chosen if start <= row < start + piece.stop - piece.start]
        weight = config.weight * len(mine) * here.size / len(chosen)
        mine = mine or [start]
        places = [row - start for row in mine]
        first = int(self.model.visual.use_cls_token)
        targets = tokens.detach()[places, first:]
        hidden = draw_masks(self.config.seed, self.progress.step, mine, targets.shape[1], config.ratio).to(here.device)
        with autocast(here.device, self.bf16):
            _, _, masked = self.pair(media[piece][places], None, hidden)
        only = hidden if config.positions == "hidden" else None
        return weight * losses.mask_regularisation(masked[:, first:], targets, only)

    def _fail(
        self,
        loss: float,
        mask_loss: float,
        length: float,
        embeddings: tuple[Tensor, Tensor],
        batch: Batch,
        stage: Stage,
    ) -> None:
        """Keeps the weights of before this step where they are sound, and says what went wrong first."""
        broken = collect(
            [name for name, p in self.pair.named_parameters() if not torch.isfinite(local(p)).all()], self.here
        )
        rows = [~torch.isfinite(side).all(dim=1) for side in embeddings]
        bad = [
            f"{what} of sample {key}"
            for what, side in zip(("image", "text"), rows, strict=True)
            for key, is_bad in zip(batch.keys, side.tolist(), strict=False)
            if is_bad
        ]
        samples = [text for texts in collect(bad, self.here) for text in texts]
        names = sorted({name for found in broken for name in found})
        gradients = sorted({name for found in collect(self._broken_gradients(), self.here) for name in found})
        kept = state.latest(self.folder) if names or self.progress.step == 0 else self._save()
        where = (
            f"weights {', '.join(names[:5])}" if names
            else f"embeddings: {', '.join(samples[:5])}" if samples
            else f"gradients of {', '.join(gradients[:5])}"
        )  # fmt: skip
        raise TrainingError(
            f"step {self.progress.step + 1} at {stage.image_size} pixels: loss {loss:g}, mask loss {mask_loss:g}, "
            f"gradient {length:g}; first seen in {where}. The last good state is {kept or 'the start'}. "
            "Lower optim.lr, or look at these samples, and resume."
        )

    def _broken_gradients(self) -> list[str]:
        return [
            name
            for name, p in self.pair.named_parameters()
            if p.grad is not None and not torch.isfinite(local(p.grad)).all()
        ]

    # Logs ------------------------------------------------------------------------------------------------------------

    def _log(self, figures: dict[str, float], stage: Stage, batches: Batches) -> None:
        now, step = time.perf_counter(), self.progress.step
        speed = (step - self._since) * self.config.data.batch_size / max(now - self._clock, 1e-9)
        self._clock, self._since = now, step
        record: dict[str, Any] = {"step": step, "of": self.steps, "image_size": stage.image_size}
        record |= {key: value for key, value in figures.items() if key != "stop"}
        record |= {"samples": self.progress.samples, "samples_per_second": speed}
        record["flops_per_second"] = speed * flops_per_sample(self.config, stage.image_size)
        if self.here.device.type == "cuda":
            name = torch.cuda.get_device_name(self.here.device)
            peak = next((flops for known, flops in PEAK_FLOPS.items() if known in name), None)
            if peak is not None:
                record["mfu"] = record["flops_per_second"] / (peak * self.here.size)
            record["memory_gib"] = torch.cuda.max_memory_allocated(self.here.device) / 2**30
        else:
            record["memory_gib"] = resident_gib()
        skipped = sum((Counter(counts) for counts in collect(dict(batches.skipped), self.here)), Counter[str]())
        self.log.write(record | ({"skipped": dict(skipped)} if skipped else {}))
