"""`midsight embed --ray`: many files to a folder of Parquet by a cluster.

It may be stopped at any moment, and killed anywhere: `checkpoint` says why nothing is lost or doubled then.
"""

import json
import os
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from midsight.errors import InputError, OutputError
from midsight.library.embed import Summary, about
from midsight.library.jobs import cluster, storage
from midsight.library.jobs.checkpoint import Checkpoint, Counted, check_lance
from midsight.library.jobs.collect import Collector
from midsight.library.jobs.decoder import Reading
from midsight.library.jobs.inputs import Input, Part, fingerprint, parts_of
from midsight.library.jobs.stages import Model
from midsight.library.tables import Row

VERSION = 1
PASSES = 3  # over what is left, should the cluster lose some of it
MATRICES = (".npy", ".safetensors")


@dataclass(frozen=True)
class Options:
    """What a job may be told beside its inputs and its model.

    Attributes:
        num_frames: frames of a video or segment.
        segment_seconds: a row for each so many seconds of a video; None takes it whole.
        batch_size: pictures and frames encoded together; None is the device's default.
        actors: processes that hold a model; None follows the cluster.
        file_seconds: time for decoding one picture, clip or segment.
        part_inputs: inputs whose rows go to one file. A part is what a kill of the driver can cost.
    """

    num_frames: int = 8
    segment_seconds: float | None = None
    batch_size: int | None = None
    actors: int | None = None
    file_seconds: float = 120.0
    part_inputs: int = 1024


class RayJob:
    """Embeds inputs into `output` on a Ray cluster; the same call goes on where an earlier one stopped.

    Rows, and the numbers in them, are those of `library.embed.EmbedJob`.

    Attributes:
        total: inputs.
        done: inputs whose part is whole, those of earlier runs included.
        name, dim: of the model.
    """

    def __init__(self, model: Model, inputs: Sequence[Input], output: str, options: Options | None = None) -> None:
        """Opens the job; reads what an earlier run left.

        Args:
            output: folder or URL that the parts go to, or NAME.lance.

        Raises:
            InputError: the earlier run was of another model, other inputs or other options.
            OutputError: the output cannot be written.
        """
        check_output(output)
        self.options = options or Options()
        self._model = _everywhere(model)
        self.total = len(inputs)
        loaded = self._model.load("cpu" if model.device.startswith("cuda") else None)
        self.name, self.dim, self._identity = loaded.name, loaded.dim, loaded.identity
        self._preprocess = loaded.preprocess
        self._about = about(loaded, self.options.num_frames)
        head = self._head(inputs)
        self.checkpoint = Checkpoint(output)
        kept = self.checkpoint.open(head)
        self.parts = list(parts_of(inputs, self.options.part_inputs, json.dumps(head, sort_keys=True)))
        self._whole: dict[str, Counted | None] = {part.name: None for part in self.parts if part.name in kept}
        self.done = sum(len(part.inputs) for part in self.parts if part.name in kept)

    def run(self, ray: Any) -> Iterator[list[Row]]:
        """Embeds what is left; the new rows, as they come in.

        Args:
            ray: of `cluster.connected`.

        Raises:
            InputError: more actors than the cluster can hold.
            OutputError: the cluster could not go on, or a part could not be written; what was finished is kept.
        """
        actors = cluster.choose_actors(ray, self.options.actors, self._model.device, self._model.threads)
        trouble: object = None
        for _ in range(PASSES):
            left = [part for part in self.parts if part.name not in self._whole]
            if not left:
                return
            tables = cluster.embeddings(
                ray, left, self._model, self._identity, self._reading(), actors, self.options.batch_size
            )
            try:
                trouble = yield from self._keep(tables, left)
            except cluster.ClusterError as error:
                trouble = error
        missing = self.total - self.done
        if missing:
            raise OutputError(
                f"{self.checkpoint.name}: {missing} of {self.total} inputs were lost on the cluster, {PASSES} times "
                f"({trouble or 'without a word from it'}). What is finished is kept; the same command goes on."
            )

    def finish(self) -> Summary:
        """Lists the parts as the result, or makes a Lance table of them.

        Raises:
            InputError: `run` has not come to its end, or an earlier part is damaged.
            OutputError: the result could not be written; the parts are intact.
        """
        if self.done < self.total:
            missing = self.total - self.done
            raise InputError(f"{self.checkpoint.name}: {missing} inputs are not embedded yet; finish run() first")
        earlier = [name for name, counted in self._whole.items() if counted is None]
        self._whole |= {counted.name: counted for counted in self.checkpoint.count(earlier)}
        parts = [counted for part in self.parts if (counted := self._whole[part.name]) is not None]
        self.checkpoint.finish(parts, self._about)
        return Summary(self.total, sum(part.rows for part in parts), sum(part.failures for part in parts))

    def _keep(self, tables: Iterator[Any], left: Sequence[Part]) -> Generator[list[Row], None, str | None]:
        """Writes the parts that become whole; gives why others did not, as far as the cluster has told."""
        collector, parts = Collector(self.dim), {part.number: part for part in left}
        for table in tables:
            for part, block, rows in collector.add(table, parts):
                if block is not None:
                    self._whole[part.name] = self.checkpoint.keep(part.name, block, self.dim, self._about)
                    self.done += len(part.inputs)
                yield rows
        return collector.trouble

    def _reading(self) -> Reading:
        options = self.options
        return Reading(self._preprocess, options.num_frames, options.segment_seconds, options.file_seconds)

    def _head(self, inputs: Sequence[Input]) -> dict[str, Any]:
        """What tells this job from others."""
        return {
            "version": VERSION,
            "identity": self._identity,
            "model": self.name,
            "inputs": fingerprint(inputs),
            "count": self.total,
            "dtype": self._about["dtype"],
            "num_frames": self.options.num_frames,
            "segment_seconds": self.options.segment_seconds,
            "part_inputs": self.options.part_inputs,
        }


def check_output(output: str) -> None:
    """Whether a job can write there.

    Raises:
        InputError: an ending of a matrix, which cannot be written in parts.
        OutputError: the folder around it does not exist.
        MissingDependencyError: Lance without lancedb.
    """
    named = storage.without_query(output).rstrip("/")
    suffix = os.path.splitext(named)[1].lower()
    if suffix in MATRICES:
        raise InputError(f"{named}: a cluster writes a folder of Parquet files (or NAME.lance), not {suffix}")
    if suffix == ".lance":
        check_lance()
    around = Path(named).absolute().parent
    if not storage.is_url(output) and not around.is_dir():
        raise OutputError(f"{named}: the folder {around} does not exist. Make it first.")


def restart(output: str) -> None:
    """Throws away what a job has written, if there is anything.

    Raises:
        OutputError: the folder is not one of a job, or cannot be removed.
    """
    Checkpoint(output).remove()


def _everywhere(model: Model) -> Model:
    """The model by a name that means the same in every folder."""
    name = model.name_or_path
    return replace(model, name_or_path=os.path.abspath(name)) if name and os.path.exists(name) else model
