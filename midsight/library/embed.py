"""Embedding many files to one: a job that can be killed at any moment and goes on with the same call.

While it runs, finished work lies in a folder beside the output (`NAME.partial`): part files, and a journal that says
which inputs they cover. A part counts once the journal names it, so nothing is lost but the last seconds and nothing
is there twice. The output itself appears whole at the end, and the folder goes.
"""

import hashlib
import io
import json
import os
import time
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from midsight.api import Outcome, Perception
from midsight.errors import InputError, OutputError
from midsight.files import Journal, atomic_write
from midsight.library.tables import Block, Row, check_output, write_table

Array = npt.NDArray[np.float32]

VERSION = 1
JOURNAL = "journal.jsonl"
PART_ROWS = 512
PART_SECONDS = 5.0  # most work that a kill can cost, beside one input


@dataclass(frozen=True)
class Summary:
    """What a finished job wrote."""

    inputs: int
    rows: int
    failures: int  # rows without an embedding


class EmbedJob:
    """Embeds files into `output`, going on where an earlier job of the same kind stopped.

    Attributes:
        total: inputs.
    """

    def __init__(
        self,
        model: Perception,
        paths: Sequence[Path],
        output: Path,
        *,
        num_frames: int = 8,
        segment_seconds: float | None = None,
        batch_size: int | None = None,
    ) -> None:
        """Opens the job; reads what an earlier run left.

        Raises:
            InputError: the earlier run was of another model, other inputs or other options.
            OutputError: the output cannot be written, or another process is working on it.
            MissingDependencyError: Parquet without pyarrow.
        """
        check_output(output)
        self.model, self.paths, self.output = model, list(paths), output
        self._options: dict[str, Any] = dict(num_frames=num_frames, segment_seconds=segment_seconds)
        self._batch_size = batch_size
        self.folder = partial_folder(output)
        self.total = len(self.paths)
        self._at, self._within = 0, 0  # the input that is being worked on, and how many rows of it are there
        self._parts: list[Path] = []
        self._journal = self._open()

    @property
    def done(self) -> int:
        """Inputs that are finished and kept, those of earlier runs included."""
        return self._kept

    def __enter__(self) -> "EmbedJob":
        return self

    def __exit__(self, *raised: object) -> None:
        self._journal.close()

    def run(self) -> Iterator[Outcome[Array]]:
        """Embeds what is left; an outcome for each picture, video or segment, in order, kept before the job ends.

        Raises:
            OutputError: the disk is full; what was finished is kept.
        """
        first = self.done
        outcomes = self.model.iter_embed(
            self.paths[first:], skip_segments=self._within, batch_size=self._batch_size, **self._options
        )
        waiting: list[Outcome[Array]] = []
        since = time.monotonic()
        for outcome in outcomes:
            if first + outcome.index > self._at:
                self._at, self._within = first + outcome.index, 0
            self._within += 1
            waiting.append(outcome)
            if len(waiting) >= PART_ROWS or time.monotonic() - since > PART_SECONDS:
                if self._ends(outcome):
                    self._at, self._within = first + outcome.index + 1, 0
                self._keep(waiting)
                waiting, since = [], time.monotonic()
            yield outcome
        if self._at < self.total or waiting:
            self._at, self._within = self.total, 0
            self._keep(waiting)

    def _ends(self, outcome: Outcome[Array]) -> bool:
        """Whether nothing more comes of this input: only segments have others behind them, good or bad."""
        return self._options["segment_seconds"] is None or outcome.start is None

    def finish(self) -> Summary:
        """Writes the output and removes the folder of parts.

        Raises:
            InputError: `run` has not come to its end.
            OutputError: the output could not be written; parts and the earlier output are intact.
        """
        if self.done < self.total:
            raise InputError(f"{self.output}: {self.total - self.done} inputs are not embedded yet; finish run() first")
        write_table(self.output, self._blocks, self.model.dim, about(self.model, self._options["num_frames"]))
        rows = failures = 0
        for block in self._blocks():
            rows += len(block.rows)
            failures += sum(row.error is not None for row in block.rows)
        self._journal.close()
        _remove(self.folder)
        return Summary(self.total, rows, failures)

    def _open(self) -> Journal:
        """The journal, locked, with the earlier records taken over."""
        journal = Journal(self.folder / JOURNAL)
        head = {
            "version": VERSION,
            "identity": self.model.identity,
            "model": self.model.name,
            "inputs": fingerprint(self.paths),
            "count": self.total,
            "dtype": self.model.dtype,
            **self._options,
        }
        _check_folder(self.folder)
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise OutputError(f"{self.folder}: could not be made ({error.strerror or error})") from error
        try:
            journal.append({"opened": round(time.time())})  # takes the lock; two jobs must not share a folder
            self._take_over(journal, head)
        except BaseException:
            journal.close()
            raise
        return journal

    def _take_over(self, journal: Journal, head: dict[str, Any]) -> None:
        records = [record for record in journal if "opened" not in record]
        self._kept = 0
        if not records:
            journal.append(head)
            return
        different = [key for key, value in head.items() if records[0].get(key) != value]
        if different:
            what = other_work(records[0], head, different)
            raise InputError(
                f"{self.folder}: holds unfinished work of {what}, which is not mixed with this. {self._start_over()}"
            )
        for record in records[1:]:
            part = self.folder / str(record["part"])
            if not part.is_file():
                raise InputError(f"{part}: is missing though the journal names it. {self._start_over()}")
            self._parts.append(part)
            self._at, self._within = int(record["done"]), int(record["within"])
        self._kept = self._at

    def _start_over(self) -> str:
        return "Repeat the earlier command to go on with it, or start over by deleting that folder (--restart)."

    def _keep(self, outcomes: Sequence[Outcome[Array]]) -> None:
        """Writes one part, then names it in the journal together with the place that the work has come to."""
        part = self.folder / f"part-{len(self._parts):06d}.npz"
        rows = [(as_text(o.source), o.start, o.end, None if o.error is None else str(o.error)) for o in outcomes]
        good = [o.value for o in outcomes if o.value is not None]
        embeddings = np.stack(good) if good else np.empty((0, self.model.dim), np.float32)
        buffer = io.BytesIO()
        np.savez(buffer, embeddings=embeddings, rows=np.frombuffer(json.dumps(rows).encode(), np.uint8))
        with atomic_write(part) as file:
            file.write(buffer.getbuffer())
        self._journal.append({"part": part.name, "done": self._at, "within": self._within})
        self._parts.append(part)
        self._kept = self._at

    def _blocks(self) -> Iterator[Block]:
        for part in self._parts:
            try:
                with np.load(part, allow_pickle=False) as arrays:
                    block = Block([Row(*row) for row in json.loads(arrays["rows"].tobytes())], arrays["embeddings"])
            except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
                raise InputError(f"{part}: is damaged ({error}). {self._start_over()}") from error
            yield block


def about(model: Perception, num_frames: int) -> dict[str, str]:
    """What embeddings were made with; written into every output."""
    from midsight import __version__

    return {
        "identity": model.identity,
        "model": model.name,
        "layer": "" if model.layer is None else str(model.layer),
        "dtype": model.dtype,
        "preprocess": json.dumps(asdict(model.preprocess)),
        "num_frames": str(num_frames),
        "midsight": __version__,
    }


def other_work(earlier: Mapping[str, Any], now: Mapping[str, Any], different: Collection[str]) -> str:
    """What unfinished work is of, for the message that refuses to mix it with this.

    Args:
        earlier, now: heads of the two jobs.
        different: the keys in which they differ.
    """
    if "version" in different:
        return "another version of midsight"
    if "identity" in different:
        return f"another model ({earlier.get('model')}, now {now['model']})"
    if "inputs" in different:
        return f"other inputs ({earlier.get('count')} files, now {now['count']}, or some of them have changed since)"
    return "other options (" + ", ".join(f"{key} {earlier.get(key)}, now {now[key]}" for key in different) + ")"


def partial_folder(output: Path) -> Path:
    """Where the unfinished work for an output lies."""
    return output.with_name(output.name + ".partial")


def restart(output: Path) -> None:
    """Throws away the unfinished work for an output, if there is any.

    Raises:
        OutputError: the folder is not one of an embedding job, or cannot be removed.
    """
    folder = partial_folder(output)
    if folder.exists():
        _check_folder(folder)
        _remove(folder)


def _check_folder(folder: Path) -> None:
    """A folder of that name that no job made is not ours to use or to delete."""
    if folder.exists() and not (folder.is_dir() and ((folder / JOURNAL).is_file() or not any(folder.iterdir()))):
        raise OutputError(f"{folder}: is not the folder of an embedding job, so it is left alone. Move it away.")


def _remove(folder: Path) -> None:
    try:
        for pattern in ("part-*.npz", ".part-*.tmp", JOURNAL):  # the journal last: without it the rest is not ours
            for path in folder.glob(pattern):
                path.unlink()
        folder.rmdir()
    except OSError as error:
        raise OutputError(f"{folder}: could not be removed ({error.strerror or error}). Remove it by hand.") from error


def fingerprint(paths: Sequence[Path]) -> str:
    """A hash of the inputs' names, sizes and times of change, 64 hexadecimal digits; a missing file counts as such."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            state = path.stat()
            known = f"{state.st_size} {state.st_mtime_ns}"
        except OSError:
            known = "missing"
        digest.update(os.fsencode(path) + b"\0" + known.encode() + b"\n")
    return digest.hexdigest()


def as_text(path: object) -> str:
    """A path as text that every format can hold: bytes that are not UTF-8 become escapes."""
    return os.fsencode(str(path)).decode("utf-8", "backslashreplace")
