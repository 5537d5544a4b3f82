"""Training of a head over a frozen encoder: deterministic batches, checkpoints that a kill cannot harm.

All that is random in a step follows from the seed and the step, so a run that was stopped and resumed goes through the
same numbers as one that was not.
"""

import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from midsight.errors import CheckpointError, TrainingError
from midsight.files import atomic_write
from midsight.train.cache import Sample, Samples, stacked
from midsight.train.dense_config import DenseConfig
from midsight.train.distributed import StopRequest, World
from midsight.train.logs import Log, Report

STATE = "state.pt"
GRACE = 15.0


@dataclass(frozen=True)
class DenseTask:
    """What segmentation and depth do differently."""

    loss: Callable[[Tensor, Tensor], Tensor]  # output of the head, targets (B, S, S)
    measure: Callable[[nn.Module, Samples], Mapping[str, float]]  # of a head in evaluation mode
    better: str  # the figure that `keep_best` goes by
    higher: bool  # whether more of it is better


@dataclass(frozen=True)
class DenseOutcome:
    """How a run ended."""

    step: int
    finished: bool
    figures: Mapping[str, float]  # of the last validation
    signal: int | None = None  # that stopped it
    model: Path | None = None  # folder of the head


@dataclass
class _Progress:
    step: int = 0
    best: float | None = None  # the figure
    best_weights: dict[str, Tensor] | None = None


class DenseTrainer:
    """One run; `run` does it all."""

    def __init__(
        self,
        config: DenseConfig,
        head: nn.Module,
        task: DenseTask,
        training: Samples,
        validation: Samples | None,
        folder: Path,
        report: Report | None = None,
    ) -> None:
        """
        Args:
            head: with the weights to begin with; is trained where the encoder computes.
            folder: of the run; made where it is missing.
        """
        self.config, self.task, self.folder, self.report = config, task, folder, report
        self.training, self.validation = training, validation
        self.device = training.encoder.device
        self.head = head.to(self.device)
        self.steps = config.length(len(training))
        optim = config.optim
        self.optimizer = torch.optim.AdamW(
            self.head.parameters(), lr=optim.lr, betas=optim.betas, weight_decay=optim.weight_decay
        )
        self.progress = _Progress()
        self.figures: Mapping[str, float] = {}

    def run(self, resume: bool = False) -> DenseOutcome:
        """Trains to the end, or until it is told to stop.

        Raises:
            TrainingError: a loss that is no number, no sample that can be read, a checkpoint of another configuration
                or of other data, or a folder that holds a run already, without `resume`.
            InputError: a target that does not belong to its picture.
            OutputError: a checkpoint cannot be written; the one before is intact.
        """
        path = self.folder / STATE
        if path.exists() and not resume:
            raise TrainingError(f"{self.folder}: holds a run already; resume it, or use another folder")
        self.folder.mkdir(parents=True, exist_ok=True)
        if path.exists():
            self._resume(path)
        self.log = Log(self.folder, self.report)
        here = World(0, 1, self.device)
        try:
            with StopRequest(here, GRACE) as stop:
                while self.progress.step < self.steps:
                    self._step()
                    if self._pause(stop):
                        return DenseOutcome(self.progress.step, False, self.figures, stop.signal)
            return DenseOutcome(self.progress.step, True, self.figures)
        finally:
            self.log.close()

    @property
    def weights(self) -> dict[str, Tensor]:
        """Those to keep: the best in validation where that is asked for and known, else the last."""
        if self.config.keep_best and self.progress.best_weights is not None:
            return self.progress.best_weights
        return dict(self.head.state_dict())

    def _pause(self, stop: StopRequest) -> bool:
        """What happens between steps; whether to leave."""
        step, run = self.progress.step, self.config.run
        last = step == self.steps
        if self.validation is not None and (last or step % self.config.evaluate_every(len(self.training)) == 0):
            self._evaluate(self.validation)
        told = stop.signal is not None
        if told or last or step % run.save_every == 0:
            self._save()
        return told and not last

    def _step(self) -> None:
        step, config = self.progress.step, self.config
        torch.manual_seed(config.seed * 1_000_003 + step)  # dropout
        samples = self._batch(step)
        self.progress.step += 1
        rate = config.optim.rate(step, self.steps)
        loss = self._learn(samples, rate) if samples else None
        if self.progress.step % config.run.log_every == 0 or self.progress.step == self.steps:
            record: dict[str, Any] = {"step": self.progress.step, "of": self.steps, "lr": rate}
            record |= {} if loss is None else {"loss": loss}
            skipped = dict(self.training.skipped)
            self.log.write(record | ({"skipped": skipped} if skipped else {}))

    def _learn(self, samples: list[Sample], rate: float) -> float:
        maps, targets = stacked(samples, lambda tensor: tensor.to(self.device))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        self.head.train()
        # BatchNorm has no variance of one single number
        alone = targets.shape[0] == 1 and maps[0].shape[-2:].numel() == 1
        loss = self.task.loss((self.head.eval() if alone else self.head)(maps), targets)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss is {value} at step {self.progress.step}. Lower optim.lr, or look at the features of layers "
                f"{self.training.encoder.layers}; the last checkpoint is kept."
            )
        loss.backward()
        self.optimizer.step()
        return value

    def _batch(self, step: int) -> list[Sample]:
        """The samples of a step: the set in another order for each epoch, one epoch right behind the other."""
        size, count = self.config.data.batch_size, len(self.training)
        found = []
        for number in range(step * size, (step + 1) * size):
            sample = self.training.get(self._order(number // count)[number % count])
            if sample is not None:
                found.append(sample)
        if not found and sum(self.training.skipped.values()) == count:
            raise TrainingError(
                f"not one of {count} pictures can be read, beginning with {self.training.data.pairs[0]}"
            )
        return found

    def _order(self, epoch: int) -> list[int]:
        if getattr(self, "_epoch", None) != epoch:
            generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + epoch)
            self._epoch, self._permutation = epoch, torch.randperm(len(self.training), generator=generator).tolist()
        return self._permutation

    def _evaluate(self, samples: Samples) -> None:
        self.figures = self.task.measure(self.head.eval(), samples)
        self.log.write({"step": self.progress.step, **self.figures})
        value, best = self.figures[self.task.better], self.progress.best
        if math.isfinite(value) and (best is None or (value > best if self.task.higher else value < best)):
            self.progress.best = value
            self.progress.best_weights = {key: t.detach().cpu().clone() for key, t in self.head.state_dict().items()}

    # Checkpoints

    def _save(self) -> None:
        buffer = io.BytesIO()
        state = {
            "digest": self.config.digest(),
            "fingerprint": self.training.fingerprint,
            "step": self.progress.step,
            "best": self.progress.best,
            "best_weights": self.progress.best_weights,
            "figures": dict(self.figures),
            "head": self.head.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        torch.save(state, buffer)
        with atomic_write(self.folder / STATE) as file:
            file.write(buffer.getbuffer())

    def _resume(self, path: Path) -> None:
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
        except Exception as error:  # torch's unpickler raises anything on broken files: struct.error, KeyError
            raise CheckpointError(f"{path}: cannot be read ({error}). Delete it to begin anew.") from error
        for key, here, what in (
            ("digest", self.config.digest(), "settings"),
            ("fingerprint", self.training.fingerprint, "pictures or features"),
        ):
            if state.get(key) != here:
                raise TrainingError(f"{path}: belongs to a run with other {what}. Use its own, or another folder.")
        self.head.load_state_dict(state["head"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.progress = _Progress(state["step"], state["best"], state["best_weights"])
        self.figures = state["figures"]
