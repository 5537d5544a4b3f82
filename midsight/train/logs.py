"""Where a run tells what it does: `log.jsonl`, TensorBoard, and a callback for a console."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from midsight.errors import MissingDependencyError
from midsight.files import Journal

Report = Callable[[Mapping[str, Any]], None]


class Log:
    """Writes each record everywhere. Only the first process has one that writes."""

    def __init__(self, folder: Path | None, report: Report | None = None) -> None:
        """A log in a run's folder; None writes nothing, and `report` is called all the same.

        Raises:
            MissingDependencyError: TensorBoard is not installed.
        """
        self._report = report
        self._journal: Journal | None = None
        self._board: Any = None
        if folder is None:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingDependencyError("logs need tensorboard: pip install 'midsight[train]'") from error
        self._journal = Journal(folder / "log.jsonl")
        self._board = SummaryWriter(str(folder / "tensorboard"))

    def write(self, record: Mapping[str, Any]) -> None:
        """One record with its `step`; numbers go to TensorBoard, all of it to the file, and nan as null."""
        if self._journal is not None:
            self._journal.append({k: None if v != v else v for k, v in record.items()})
            numbers = {k: v for k, v in record.items() if isinstance(v, int | float) and k != "step"}
            for key, value in numbers.items():
                self._board.add_scalar(key, value, record["step"])
        if self._report is not None:
            self._report(record)

    def close(self) -> None:
        """Waits until all is on the disk."""
        if self._journal is not None:
            self._journal.close()
            self._board.close()


def resident_gib() -> float:
    """Most memory that this process has held, GiB."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
