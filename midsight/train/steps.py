"""The loop around the steps of a run with one stage: log, save, leave when told."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from midsight.train.distributed import StopRequest
from midsight.train.logs import Log


@dataclass(frozen=True)
class Pace:
    """How long a run is, and what happens how often."""

    steps: int
    batch_size: int  # samples of a step, over all processes
    log_every: int  # steps
    save_every: int


class Stepping(Protocol):
    """What the loop needs of a run."""

    log: Log

    @property
    def done(self) -> int:
        """Steps so far."""

    def step(self, stop: StopRequest) -> dict[str, float]:
        """Takes a step; its figures, and under "stop" how many processes were told to leave."""

    def advance(self) -> None:
        """The step is done, and the place in the data is that behind it."""

    def skipped(self) -> Mapping[str, int]:
        """Samples that were left out so far, by reason."""

    def save(self) -> None:
        """Writes a checkpoint."""


def take_steps(run: Stepping, pace: Pace, stop: StopRequest) -> bool:
    """Steps to the end; False where the run was told to stop before it, which is then saved."""
    clock, since = time.perf_counter(), run.done
    while run.done < pace.steps:
        figures = run.step(stop)
        run.advance()
        step, last, told = run.done, run.done == pace.steps, figures.pop("stop") > 0
        if step % pace.log_every == 0 or last:
            now = time.perf_counter()
            speed = (step - since) * pace.batch_size / max(now - clock, 1e-9)
            clock, since = now, step
            skipped = dict(run.skipped())
            record = {"step": step, "of": pace.steps, **figures, "samples_per_second": speed}
            run.log.write(record | ({"skipped": skipped} if skipped else {}))
        if told:
            stop.heard()
        if told or last or step % pace.save_every == 0:
            with stop.saving:
                run.save()
        if told and not last:
            return False
    return True
