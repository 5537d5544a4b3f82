"""Detector finetuning from a recipe to a folder that `midsight.tasks.detection.load_detector` opens.

All that is random in a step follows from the seed and the step, so a run that was stopped and resumed goes through the
same numbers as one that was not. One process; the tower may be trained with a learning rate that falls off towards the
input, or stay as it is.
"""

import math
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from midsight.data.coco import CocoDataset, read_coco
from midsight.errors import ConfigError, TrainingError
from midsight.evaluate.detection import evaluate_detector
from midsight.files import content_hash
from midsight.tasks.detection import DETA, Categories, MaskRCNN, WindowedBackbone, save_detector
from midsight.tasks.detection.deta_losses import deta_losses
from midsight.tasks.detection.losses import federated_weights, mask_rcnn_losses
from midsight.tasks.detection.preprocess import DETA_PIXELS, MASK_RCNN_PIXELS
from midsight.train import optim, state
from midsight.train.detect_config import DetectConfig, DetectOptimConfig
from midsight.train.detect_data import DetectBatch, DetectStream
from midsight.train.detect_start import build_detector
from midsight.train.distributed import StopRequest, World, world
from midsight.train.logs import Log, Report
from midsight.train.loop import Outcome
from midsight.train.pair import autocast
from midsight.train.revision import revision

DROP = 0.1  # of the learning rate, at each of `optim.drops`
_GRACE = 15.0  # seconds, of a process among several


def train_detector(
    config: DetectConfig, folder: str | Path, *, resume: bool = False, report: Report | None = None
) -> Outcome:
    """Trains as a recipe says.

    Args:
        config: `data.images` and `data.annotations` must name the data.
        folder: for checkpoints, logs and, at the end, `model/`.
        resume: go on from the newest checkpoint in the folder.
        report: called with each record of the log.

    Raises:
        ConfigError: a recipe that cannot be.
        InputError, MediaError: data that cannot be read.
        CheckpointError: weights to start from that cannot be had.
        TrainingError: a loss that is no number; a folder that holds a run already, without `resume`; a checkpoint of
            another configuration or of other data.
        OutputError: a checkpoint cannot be written; the one before is intact.
    """
    if not config.data.images or not config.data.annotations:
        raise ConfigError("data.images and data.annotations are empty: name a folder and a COCO annotation file")
    data = read_coco(config.data.annotations, config.data.images)
    validation = config.data.validation_annotations
    measured = read_coco(validation, config.data.validation_images or config.data.images) if validation else None
    with world(config.run.device) as here:
        if here.size > 1:
            raise ConfigError("detectors are trained in one process; start it without torchrun")
        torch.manual_seed(config.seed)
        detector = build_detector(config.model, data)
        _prepare(detector, config, data)
        return DetectRun(config, detector.to(here.device), data, measured, Path(folder), here, report).run(resume)


class DetectRun:
    """One run; `run` does it all."""

    def __init__(
        self,
        config: DetectConfig,
        detector: MaskRCNN | DETA,
        data: CocoDataset,
        measured: CocoDataset | None,
        folder: Path,
        here: World,
        report: Report | None,
    ) -> None:
        self.config, self.detector, self.data, self.measured = config, detector, data, measured
        self.folder, self.here, self.report = folder, here, report
        self.net = tower_of(detector)
        self.stream = stream_of(config, detector, data)
        self.steps = config.steps or max(1, round(config.epochs * self.stream.pictures / config.data.batch_size))
        self.optimizer = build_optimizer(detector, self.net, config.optim)
        self.progress = state.Progress()
        self.fingerprint = content_hash(data.source)

    def run(self, resume: bool) -> Outcome:
        """Trains to the end, or until it is told to stop; see `train_detector`."""
        found = state.enter(self.folder, resume, self.here)
        if found is not None:
            self.progress = state.read_progress(found, self.config.digest(), self.fingerprint, 1)
            state.read_tensors(found, state.tensors(self.detector, self.optimizer), self.here)
        self.log = Log(self.folder, self.report)
        try:
            with StopRequest(self.here, _GRACE) as stop, closing(self.stream.batches(self.progress.step)) as batches:
                while self.progress.step < self.steps:
                    self._advance(next(batches), stop)
                    if stop.signal is not None and self.progress.step < self.steps:
                        return Outcome(self.progress.step, False, stop.signal)
            return self._finish()
        finally:
            self.log.close()

    def _advance(self, batch: DetectBatch, stop: StopRequest) -> None:
        """One step, and what is due behind it."""
        run, start = self.config.run, time.perf_counter()
        figures = self._step(batch)
        step = self.progress.step + 1
        self.progress = replace(self.progress, step=step, samples=step * self.config.data.batch_size)
        last = step == self.steps
        if step % run.log_every == 0 or last or step == 1:
            speed = len(batch.images) / (time.perf_counter() - start)
            self.log.write({"step": step, "of": self.steps, **figures, "samples_per_second": speed})
        if run.evaluate_every and step % run.evaluate_every == 0 and not last:
            self._measure()
        if step % run.save_every == 0 or last or stop.signal is not None:
            with stop.saving:
                self._save()

    def _step(self, batch: DetectBatch) -> dict[str, float]:
        config, step = self.config, self.progress.step
        torch.manual_seed(config.seed * 1_000_003 + step)
        self.detector.train()
        if config.model.frozen:
            self.net.eval()
        rate = learning_rate(config.optim, step, self.steps)
        optim.set_learning_rate(self.optimizer, rate)
        self.optimizer.zero_grad(set_to_none=True)
        losses = self._losses(batch)
        total = torch.stack(list(losses.values())).sum()
        total.backward()
        length = optim.clip_gradients(self.detector.parameters(), config.optim.clip)
        if not math.isfinite(float(total.detach())) or not math.isfinite(length):
            shown = ", ".join(f"{name} {float(value.detach()):.4g}" for name, value in losses.items())
            raise TrainingError(
                f"step {step + 1}: the loss is no number ({shown}; gradient {length:.4g}) on images {batch.images}. "
                "Lower optim.lr, set optim.clip, or look at these images"
            )
        self.optimizer.step()
        values = {name: float(value.detach()) for name, value in losses.items()}
        return {"loss": float(total.detach()), **values, "lr": rate, "gradient": length}

    def _losses(self, batch: DetectBatch) -> Mapping[str, Tensor]:
        device, bf16 = self.here.device, self.config.run.precision == "bf16"
        pixels, targets = batch.pixels.to(device), [target.to(device) for target in batch.targets]
        with autocast(device, bf16):
            if isinstance(self.detector, DETA):
                return deta_losses(self.detector, pixels, batch.sizes, targets, self.config.deta)
            return mask_rcnn_losses(self.detector, pixels, batch.sizes, targets, self.config.mask_rcnn)

    def _measure(self) -> dict[str, float]:
        """Average precision on the validation data, if there are any."""
        if self.measured is None:
            return {}
        federated, ids = self.config.data.federated, _categories(self.config, self.data).ids or None
        found = dict(evaluate_detector(self.detector.eval(), self.measured, ids, federated=federated))
        self.log.write({"step": self.progress.step, **found})
        return found

    def _save(self) -> None:
        values, digest = state.tensors(self.detector, self.optimizer), self.config.digest()
        state.save(self.folder, values, self.progress, digest, self.fingerprint, self.here, self.config.run.keep)

    def _finish(self) -> Outcome:
        figures = self._measure()
        kept = {name: value for name, value in figures.items() if math.isfinite(value)}
        metadata = {"seed": self.config.seed, "steps": self.progress.step, "figures": kept}
        metadata |= {"recipe": asdict(self.config), "revision": revision()}
        detector = self.detector.eval()
        model = save_detector(self.folder / "model", detector, _categories(self.config, self.data), metadata)
        return Outcome(self.progress.step, True, model=model, figures=figures)


def tower_of(detector: MaskRCNN | DETA) -> WindowedBackbone:
    """A detector's backbone."""
    return detector.net if isinstance(detector, DETA) else detector.backbone.net


def stream_of(config: DetectConfig, detector: MaskRCNN | DETA, data: CocoDataset) -> DetectStream:
    """The batches of a run."""
    return DetectStream(
        data,
        detector.config.image_size,
        DETA_PIXELS if isinstance(detector, DETA) else MASK_RCNN_PIXELS,
        config.augment,
        config.seed,
        config.data.batch_size,
        config.data.workers,
        masks=isinstance(detector, MaskRCNN) and data.has_masks,
        category_labels=config.model.labels == "category_id",
        repeat_threshold=config.data.repeat_threshold,
    )


def build_optimizer(detector: MaskRCNN | DETA, net: WindowedBackbone, config: DetectOptimConfig) -> torch.optim.AdamW:
    """AdamW with one group for each combination of decay and depth; what is frozen is left out."""
    blocks = {id(parameter): optim.depth_of(name, 0, net.layers) for name, parameter in net.named_parameters()}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in detector.named_parameters():
        if parameter.requires_grad:
            factor = config.layer_decay ** blocks.get(id(parameter), 0)
            decay = config.weight_decay if optim.decays(name, parameter) else 0.0
            groups.setdefault((factor, decay), []).append(parameter)
    ordered = [{"params": groups[key], "factor": key[0], "weight_decay": key[1]} for key in sorted(groups)]
    return torch.optim.AdamW(ordered, lr=config.lr, betas=config.betas, eps=config.eps)


def learning_rate(config: DetectOptimConfig, step: int, steps: int) -> float:
    """The learning rate of a step (0-based) of `steps`: a straight rise, then a tenth behind each drop.

    The warm-up is cut to a tenth of a run that is shorter than ten warm-ups.
    """
    warmup = min(config.warmup_steps, steps // 10)
    passed = sum(step >= round(part * steps) for part in config.drops)
    rise = config.warmup_factor + (1 - config.warmup_factor) * step / warmup if step < warmup else 1.0
    return float(config.lr * rise * DROP**passed)


def _prepare(detector: MaskRCNN | DETA, config: DetectConfig, data: CocoDataset) -> None:
    net = tower_of(detector)
    net.set_grad_checkpointing(config.run.grad_checkpointing)
    if config.model.frozen:
        net.requires_grad_(False)
    if isinstance(detector, MaskRCNN) and detector.config.score_function == "sigmoid":
        counts = torch.from_numpy(data.images_of_class())
        weights = federated_weights(counts, config.mask_rcnn.federated_power)
        detector.roi_heads.box_predictor.fed_loss_cls_weights.copy_(weights)


def _categories(config: DetectConfig, data: CocoDataset) -> Categories:
    if config.model.labels == "contiguous":
        return Categories(data.category_ids, data.names)
    names = dict(zip(data.category_ids, data.names, strict=True))
    return Categories((), tuple(names.get(id_, "") for id_ in range(max(names) + 1)))
