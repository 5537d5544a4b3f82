"""What runs on the cluster: `decode` in tasks on any machine, `Embed` in actors that hold one model each.

Between them go Arrow tables with a row for each picture, clip or segment. A row says which input of which part it is of
and whether it is the last of its input; nothing here depends on how rows are grouped or how often they come.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from midsight.errors import InputError, MediaError
from midsight.library.jobs import storage
from midsight.library.jobs.decoder import Decoded, Decoder, Reading

if TYPE_CHECKING:
    import torch

    from midsight.api import Perception

Array = npt.NDArray[np.float32]

FETCHES = 16  # files of an object store that one worker fetches at the same time
DECODERS: dict[Reading, Decoder] = {}  # of this worker process; they stay from task to task


@dataclass(frozen=True)
class Model:
    """What every actor loads, by the words of `midsight.load`."""

    name_or_path: str | None = None
    revision: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    layer: int | None = None
    image_size: int | None = None
    threads: int | None = None

    def load(self, device: str | None = None) -> "Perception":
        """The model, here.

        Args:
            device: another one than the actors'.
        """
        import midsight

        return midsight.load(
            self.name_or_path, device or self.device, self.dtype,  # type: ignore[arg-type]  # load says what is allowed
            self.layer, revision=self.revision, image_size=self.image_size, threads=self.threads,
        )  # fmt: skip


def decode(inputs: Any, reading: Reading, frames_at_once: int) -> Iterator[Any]:
    """Inputs of a part to pixels.

    Args:
        inputs: Arrow table with the columns part, input, name, place.
        frames_at_once: about how many frames a table that is given on holds.

    Yields:
        Arrow tables with the columns part, input, name, entry, last, start, end, error, frames, pixels.
    """
    decoder = DECODERS.setdefault(reading, Decoder(reading))
    rows: list[dict[str, Any]] = []
    frames = 0
    for (part, number, name), found in _entries(decoder, inputs):
        for entry, (decoded, last) in enumerate(_with_last(found)):
            row = {"part": part, "input": number, "name": name, "entry": entry, "last": last}
            rows.append(row | {"found": decoded})
            frames += max(1, decoded.frames)
            if frames >= frames_at_once:
                yield _pixel_table(rows)
                rows, frames = [], 0
    if rows:
        yield _pixel_table(rows)


def _with_last(found: Iterable[Decoded]) -> Iterator[tuple[Decoded, bool]]:
    """Each with whether it is the last one; an input without anything in it is an error, for it must have a row."""
    waiting: Decoded | None = None
    for one in found:
        if waiting is not None:
            yield waiting, False
        waiting = one
    yield waiting or Decoded(error="nothing came of it"), True


def _entries(decoder: Decoder, inputs: Any) -> Iterator[tuple[tuple[int, int, str], Iterator[Decoded]]]:
    """The entries of each input, in order; pictures of object stores are fetched ahead."""
    todo = zip(*(inputs[column].to_pylist() for column in ("part", "input", "name", "place")), strict=True)
    waiting: deque[tuple[Any, Future[bytes] | None]] = deque()
    with ThreadPoolExecutor(FETCHES, "midsight-fetch") as pool:
        try:
            for part, number, name, raw in todo:
                place = os.fsdecode(raw)
                fetched = storage.is_url(place) and not storage.is_video(place)
                future = pool.submit(storage.read, place, name) if fetched else None
                waiting.append(((part, number, name, place), future))
                if len(waiting) > FETCHES:
                    yield _decoded(decoder, *waiting.popleft())
            while waiting:
                yield _decoded(decoder, *waiting.popleft())
        finally:
            for _, future in waiting:
                if future is not None:
                    future.cancel()


def _decoded(
    decoder: Decoder, one: Any, fetched: "Future[bytes] | None"
) -> tuple[tuple[int, int, str], Iterator[Decoded]]:
    part, number, name, place = one

    def read() -> Iterator[Decoded]:
        video = storage.is_video(place)
        try:
            data = b"" if fetched is None else fetched.result()
            with _on_disk(place, name) as path:
                yield from decoder.read(name, data if path is None else path, video=video)
        except MediaError as error:
            yield Decoded(error=str(error))

    return (part, number, name), read()


@contextmanager
def _on_disk(place: str, name: str) -> Iterator[str | None]:
    """Where the file lies on this machine; None for a picture of an object store, whose bytes are in memory."""
    if not storage.is_url(place):
        yield place
    elif not storage.is_video(place):
        yield None
    else:  # decoders jump about in a video, which may be far larger than the memory
        with TemporaryDirectory(prefix="midsight-") as folder:
            target = Path(folder, "video" + os.path.splitext(storage.without_query(place))[1])
            storage.download(place, name, target)
            yield str(target)


def _pixel_table(rows: list[dict[str, Any]]) -> Any:
    import pyarrow as pa

    found: list[Decoded] = [row["found"] for row in rows]
    return pa.table(
        {
            "part": pa.array([row["part"] for row in rows], pa.int32()),
            "input": pa.array([row["input"] for row in rows], pa.int32()),
            "name": pa.array([row["name"] for row in rows], pa.string()),
            "entry": pa.array([row["entry"] for row in rows], pa.int32()),
            "last": pa.array([row["last"] for row in rows], pa.bool_()),
            "start": pa.array([one.start for one in found], pa.float64()),
            "end": pa.array([one.end for one in found], pa.float64()),
            "error": pa.array([one.error for one in found], pa.string()),
            "frames": pa.array([one.frames for one in found], pa.int32()),
            "pixels": pa.array([one.pixels or b"" for one in found], pa.large_binary()),
        }
    )


class Embed:
    """An actor: one model, pixels in, embeddings out."""

    def __init__(self, model: Model, identity: str, batch_size: int | None = None) -> None:
        """Loads the model.

        Raises:
            InputError: this machine has other weights under the same name.
        """
        self._model = model.load()
        self._batch_size = batch_size
        if self._model.identity != identity:
            raise InputError(
                f"{model.name_or_path}: the weights on this machine of the cluster are not those of the machine that "
                "started the job. Put the same files on all of them."
            )

    def __call__(self, table: Any) -> Any:
        """Arrow table of `decode` to one with `embedding`, float32 lists of fixed length, in place of the pixels."""
        import pyarrow as pa

        clips = _clips(table, self._model.preprocess.image_size)
        good = [number for number, clip in enumerate(clips) if clip is not None]
        found = halving(self._encode, [clip for clip in clips if clip is not None])
        embeddings = np.zeros((len(clips), self._model.dim), np.float32)
        names, errors = table["name"].to_pylist(), table["error"].to_pylist()
        for number, result in zip(good, found, strict=True):
            if isinstance(result, str):
                errors[number] = f"{names[number]}: {result}"
            else:
                embeddings[number] = result
        values = pa.FixedSizeListArray.from_arrays(embeddings.ravel(), self._model.dim)
        kept = table.drop_columns(["pixels", "frames", "error", "name"])
        return kept.append_column("error", pa.array(errors, pa.string())).append_column("embedding", values)

    def _encode(self, clips: "list[torch.Tensor]") -> list[Array | None]:
        return self._model.embed_frames(clips, batch_size=self._batch_size)


LOST = -1  # in the column input: the row tells why others are missing


def guarded(inputs: Any, stage: Callable[..., Iterator[Any]], **options: Any) -> Iterator[Any]:
    """`decode` that never raises, for Ray Data may stall where a task does: what is missing is told, and done again."""
    try:
        yield from stage(inputs, **options)
    except Exception as error:  # of the stage itself: what is in a file does not come here
        yield _lost(inputs, error)


class Guarded:
    """`Embed` that never raises once it has its model."""

    def __init__(self, make: Callable[..., "Embed"], options: dict[str, Any]) -> None:
        self._embed = make(**options)

    def __call__(self, table: Any) -> Any:
        """As `Embed`; in place of what fails, a row that tells why."""
        try:
            return self._embed(table)
        except Exception as error:
            return self._embed(_lost(table, error))


def _lost(table: Any, error: Exception) -> Any:
    row = {"part": table["part"][0].as_py(), "input": LOST, "name": "", "entry": 0, "last": True}
    return _pixel_table([row | {"found": Decoded(error=f"{type(error).__name__}: {error}")}])


NOT_FINITE = "the encoder gives no finite embedding for it"


def halving(encode: Any, clips: list[Any]) -> list[Array | str]:
    """Results of `encode`, which is tried again where it fails, and then on halves, down to a single clip.

    So a moment's fault costs a second try, a batch too large for the memory ends in smaller ones, and a clip on which
    the encoder fails costs that clip. A device whose state is lost fails on everything that follows: the process ends
    then, and Ray starts another.

    Returns:
        For each clip its embedding, or why there is none.
    """
    if not clips:
        return []
    for attempt in range(2):
        try:
            return [NOT_FINITE if found is None else found for found in encode(clips)]
        except Exception as error:  # whatever torch or a driver raises
            if _device_is_lost(error):
                os._exit(1)
            if attempt and len(clips) == 1:
                return [f"the encoder failed on it ({type(error).__name__}: {error})"]
    middle = len(clips) // 2
    return halving(encode, clips[:middle]) + halving(encode, clips[middle:])


def _device_is_lost(error: Exception) -> bool:
    """A fault on the GPU that only a new process gets rid of; being out of memory is none."""
    text = f"{type(error).__name__}: {error}"
    return "out of memory" not in text and any(word in text for word in ("AcceleratorError", "CUDA error", "cuBLAS"))


def _clips(table: Any, size: int) -> "list[torch.Tensor | None]":
    """The pixels of each row, uint8 (T, 3, S, S); None where there are none."""
    import torch

    clips: list[torch.Tensor | None] = []
    for frames, pixels in zip(table["frames"].to_pylist(), table["pixels"], strict=True):
        if not frames:
            clips.append(None)
            continue
        values = np.frombuffer(pixels.as_buffer(), np.uint8).reshape(frames, 3, size, size)
        clips.append(torch.from_numpy(values.copy()))  # the buffer is shared memory that may not be written to
    return clips
