"""The job around a dense task: inputs in order, one result or one failure each, stopped and taken up at any moment."""

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch

from midsight.ahead import read_ahead
from midsight.api import Opened, Outcome
from midsight.errors import InputError, MediaError, MidsightError, OutputError
from midsight.images import describe, load_image
from midsight.library.dense.plan import Item, plan
from midsight.library.dense.state import State, known_records
from midsight.video import Camera, TimedFrame, open_camera, open_frames

P = TypeVar("P")
R = TypeVar("R", contravariant=True)
Add = Callable[[TimedFrame, P], None]
Tick = Callable[[Item, int, int | None], None]  # the input, frames of it that are done, frames that it has

_READERS, _AHEAD = 2, 2  # threads, and inputs that they work on: whole pictures wait in memory
_BEHIND = 2  # frames of one input that may wait to be drawn and written


class Results(Protocol[R]):
    """What a task writes."""

    @property
    def task(self) -> str:
        """The command that it belongs to."""

    @property
    def out(self) -> Path:
        """The folder of all results."""

    @property
    def folders(self) -> Sequence[str]:
        """Those below `out` that results go to."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """What the results depend on beside the model and the input, as JSON."""

    def files(self, item: Item) -> Sequence[str]:
        """The main results of an input, relative to `out`."""

    def open(self, item: Item) -> AbstractContextManager[Callable[[TimedFrame, R], None]]:
        """Takes the frames of one input; its files are whole when the block ends well."""

    def finish(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Writes what belongs to all inputs together; `records` of the journal, by name."""


@dataclass(frozen=True)
class Done:
    """One input is finished."""

    name: str  # of its results
    frames: int
    before: bool = False  # by an earlier run
    note: str = ""  # what should be known of it


class _End:
    """Stands behind the last frame of a video that can be read only in part."""


class DenseJob(Generic[P]):
    """Runs a dense task over pictures, folders, videos and cameras.

    Attributes:
        items: the inputs, in order.
        out: the folder of all results.
        recording: whether a camera is on; `end_recording` ends it well.
    """

    def __init__(
        self,
        inputs: Sequence[str],
        opened: Opened[P],
        results: Results[P],
        *,
        every: int = 1,
        seconds: float | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Opens the job; reads what an earlier run left.

        Args:
            inputs: files, folders and cameras (`camera:0`).
            opened: the task.
            results: what is written of it, and where.
            every: take each frame of a video whose index is a multiple of it.
            seconds: length of a recording; None: until `end_recording`.
            settings: what else the results depend on, as JSON.

        Raises:
            InputError: no inputs, or one of which nothing would be written; a folder of results that is a file, an
                input, or of other settings.
            OutputError: the folder cannot be written, or another process is working on it.
        """
        if every < 1 or (seconds is not None and not seconds > 0):
            raise InputError(f"every must be at least 1 and seconds above 0, got {every} and {seconds}")
        self._opened, self._results, self._every, self._seconds = opened, results, every, seconds
        self.out = results.out
        self._camera: Camera | None = None
        self._given_up: set[str] = set()
        self.items = plan(inputs, results.out, known_records(results.out), results.folders)
        for item in self.items:
            if not results.files(item):
                raise InputError(
                    f"{item.source}: nothing would be written of this {item.kind}. Keep the overlay, or every frame."
                )
        about = {"task": results.task, "model": opened.about, "identity": opened.identity, "every": every}
        self._state = State(results.out, {**about, **results.settings, **(settings or {})}, results.folders)

    def __enter__(self) -> "DenseJob[P]":
        return self

    def __exit__(self, *raised: object) -> None:
        self._state.close()

    @property
    def done(self) -> int:
        """Inputs that are finished, those of earlier runs included."""
        return sum(self._is_done(item) for item in self.items)

    @property
    def recording(self) -> bool:
        return self._camera is not None

    def end_recording(self) -> bool:
        """Ends a recording with the frame that is being looked at; may be called from a handler of signals.

        Returns:
            Whether there was one that had not been told so before.
        """
        if self._camera is None or self._camera.stopped:
            return False
        self._camera.stop()
        return True

    def run(self, tick: Tick = lambda item, done, total: None) -> Iterator[Outcome[Done]]:
        """Works on what is not finished; an outcome for each input, in order.

        Args:
            tick: called after each frame.

        Raises:
            OutputError: the disk is full; what was finished is kept.
        """
        index = itertools.count()
        for camera, group in itertools.groupby(self.items, lambda item: item.kind == "camera"):
            members = list(group)
            if camera:
                for item in members:
                    yield self._outcome(next(index), item, partial(self._record, item, tick))
            else:
                yield from self._files(members, index, tick)

    def finish(self) -> None:
        """Writes what belongs to all finished inputs together, those of earlier runs included.

        Raises:
            OutputError: it cannot be written.
        """
        records = sorted(self._state.records.values(), key=lambda record: record["name"])
        self._results.finish([record for record in records if self._has_results(record)])

    def _files(self, items: Sequence[Item], index: Iterator[int], tick: Tick) -> Iterator[Outcome[Done]]:
        todo = [item for item in items if not self._is_done(item)]
        waiting = {item.key for item in todo}
        with closing(read_ahead(todo, self._read, workers=_READERS, inputs_ahead=_AHEAD)) as stream:
            read = itertools.groupby(stream, lambda pair: pair[0].key)
            for item in items:
                if item.key not in waiting:
                    record = self._state.records[item.key]
                    yield Outcome(next(index), item.source, Done(item.name, int(record["frames"]), before=True))
                    continue
                _, group = next(read)
                frames = (result for _, result in group)
                yield self._outcome(next(index), item, partial(self._predict, item, frames, tick))

    def _read(self, item: Item) -> Iterator[TimedFrame | _End]:
        """The frames of a file; runs in a thread."""
        if item.kind == "picture":
            yield TimedFrame(load_image(item.source), 0, 0.0, 0.0, 1)
            return
        with open_frames(item.source, self._every) as frames:
            for frame in frames:
                if item.key in self._given_up:
                    return
                yield frame
            if frames.short_read:
                yield _End()

    def _outcome(self, index: int, item: Item, work: Callable[[Add[P]], tuple[int, str]]) -> Outcome[Done]:
        """Opens the results of one input, lets the work fill them, and notes that it is finished."""
        try:
            with self._results.open(item) as add, _behind(add) as put:
                frames, note = work(put)
        except OutputError:
            raise
        except (MidsightError, torch.OutOfMemoryError, MemoryError) as error:
            self._given_up.add(item.key)
            return Outcome(index, item.source, error=_failure(error, item))
        self._state.add(item, frames)
        return Outcome(index, item.source, Done(item.name, frames, note=note))

    def _predict(
        self, item: Item, results: Iterator[TimedFrame | _End | Exception], tick: Tick, add: Add[P]
    ) -> tuple[int, str]:
        done, note = 0, ""
        for result in results:
            if isinstance(result, Exception):
                raise result
            if isinstance(result, _End):
                note = "cut or broken; the results are of the part that can be read"
                continue
            try:
                add(result, self._opened.predict(result.pixels))
            except MediaError as error:
                where = item.source if item.kind == "picture" else f"{item.source}: frame {result.index}"
                why = str(error).removeprefix(f"{describe(result.pixels)}: ")
                raise MediaError(f"{where}: {why}") from error
            done += 1
            tick(item, done, result.total)
        return done, note

    def _record(self, item: Item, tick: Tick, add: Add[P]) -> tuple[int, str]:
        done = 0
        with open_camera(item.source, self._seconds) as camera:
            self._camera = camera
            try:
                for frame in camera:
                    add(frame, self._opened.predict(frame.pixels))
                    done += 1
                    tick(item, done, None)
            finally:
                self._camera = None
            if not done:
                raise MediaError(f"{item.source}: stopped before the first picture.")
            notes = [f"ended early: {camera.ended}"] if camera.ended else []
            if camera.dropped:
                notes.append(f"{camera.dropped} frames were passed over, as the model is slower than the camera")
            return done, "; ".join(notes)

    def _is_done(self, item: Item) -> bool:
        return self._state.is_done(item, self._results.files(item))

    def _has_results(self, record: Mapping[str, Any]) -> bool:
        item = Item("", record["kind"], record["key"], record["name"], record["file_name"])
        return all((self._results.out / name).exists() for name in self._results.files(item))


@contextmanager
def _behind(add: Add[P]) -> Iterator[Add[P]]:
    """The same function run in a thread, in order: a frame is drawn and written while the model looks at the next.

    What it raises comes out of a later call, or at the end of the block.
    """
    with ThreadPoolExecutor(1, "midsight-write") as pool:
        waiting: deque[Future[None]] = deque()

        def put(frame: TimedFrame, prediction: P) -> None:
            while len(waiting) >= _BEHIND:
                waiting.popleft().result()
            waiting.append(pool.submit(add, frame, prediction))

        yield put
        for future in waiting:
            future.result()


def _failure(error: Exception, item: Item) -> MidsightError:
    if isinstance(error, MidsightError):
        return error if item.source in str(error) else MediaError(f"{item.source}: {error}")
    return MediaError(f"{item.source}: too large for the memory ({str(error)[:100] or type(error).__name__}).")
