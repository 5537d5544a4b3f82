"""A Ray cluster: joined, or started here for the time of a job; and the pipeline that runs on it."""

import logging
import os
import signal
import socket
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from midsight.errors import InputError, MidsightError, MissingDependencyError
from midsight.files import available_cpus
from midsight.library.jobs.decoder import Reading
from midsight.library.jobs.inputs import Part, row_name
from midsight.library.jobs.stages import Embed, Guarded, Model, decode, guarded

DECODER_MEMORY = 600 << 20  # bytes, with its child. Being unlike the actors' also keeps Ray from fusing the two stages
FRAMES_AT_ONCE = {"cpu": 64, "gpu": 128}  # that go from a decoder to a model in one piece
_REACH = 15.0  # seconds for the first answer of a cluster
STALLED = 900.0  # seconds without any progress after which a pipeline is given up and the rest started anew


class ClusterError(Exception):
    """The cluster could not go on; the job decides what that means for it."""


@dataclass(frozen=True)
class Actors:
    """The processes that hold a model.

    Attributes:
        count: how many.
        gpus: of each, 0 or 1.
        cpus: of each; a GPU's actor needs next to none.
    """

    count: int
    gpus: int
    cpus: int


def import_ray() -> Any:
    """Ray, with Ray Data.

    Raises:
        MissingDependencyError: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingDependencyError(
            "a job on a cluster needs Ray, which is not installed: pip install 'midsight[cluster]'"
        ) from error
    return ray


@contextmanager
def connected(address: str | None = None) -> Iterator[Any]:
    """Ray, connected to a cluster; a connection that is there already is used and left as it is.

    Args:
        address: of the cluster ("auto", "host:6379", "ray://host:10001"). None: the one that RAY_ADDRESS names, and
            where there is none, a cluster of this machine alone, which ends with the block.

    Raises:
        InputError: there is no cluster at that address.
    """
    ray = import_ray()
    if ray.is_initialized():
        yield ray
        return
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    known = address or os.environ.get("RAY_ADDRESS")
    if known and known != "local":
        options["address"] = known
    else:
        options |= {"num_cpus": available_cpus(), "include_dashboard": False}
    handler = signal.getsignal(signal.SIGTERM)  # Ray puts its own in place and leaves it there
    try:
        if "address" in options:
            _reach(options["address"])
        with _silent_stderr():
            ray.init(**options)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        raise InputError(f"no Ray cluster at {known or 'this machine'}: {error}") from error
    try:
        yield ray
    finally:
        ray.shutdown()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def _reach(address: str) -> None:
    """Whether anybody listens there: Ray itself would try for minutes.

    Raises:
        OSError: nobody does.
    """
    host, _, port = address.removeprefix("ray://").partition("/")[0].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH).close()


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Ray's C++ says on stderr that it will be quiet; errors come as exceptions all the same."""
    try:
        kept = os.dup(2)
    except OSError:  # there is no stderr
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def choose_actors(ray: Any, actors: int | None, device: str, threads: int | None) -> Actors:
    """How the models are spread over the cluster as it is now.

    Args:
        actors: how many, or None: one for each GPU, and without GPUs on half of the CPUs, for the rest has to decode.
        device: of `midsight.load`; "cpu" leaves GPUs alone.
        threads: CPUs of an actor without a GPU.

    Raises:
        InputError: more than the cluster has.
    """
    there = ray.cluster_resources()
    cpus, gpus = int(there.get("CPU", 0)), int(there.get("GPU", 0))
    on_gpu = device.startswith("cuda") or (device == "auto" and gpus > 0)
    if on_gpu:
        count = actors or max(1, gpus)
        if count > gpus:
            raise InputError(f"{count} actors with a GPU each were asked for; the cluster has {gpus} GPUs")
        return Actors(count, 1, 0)
    each = threads or 1
    count = actors or max(1, cpus // 2 // each)
    if cpus < 2 and count == 1:
        return Actors(1, 0, 0)
    if count * each >= cpus:
        raise InputError(
            f"{count} actors of {each} CPUs each were asked for; the cluster has {cpus} CPUs, and one has to decode"
        )
    return Actors(count, 0, each)


def embeddings(
    ray: Any,
    parts: Sequence[Part],
    model: Model,
    identity: str,
    reading: Reading,
    actors: Actors,
    batch_size: int | None,
) -> Iterator[Any]:
    """Tables of `stages.Embed`, as they become ready, in any order.

    What dies on the cluster is done again there. What fails there is told in a row (`stages.LOST`).

    Raises:
        ClusterError: the cluster could not go on.
        InputError: a machine has other weights under the model's name.
    """
    data, frames_at_once = ray.data, FRAMES_AT_ONCE["gpu" if actors.gpus else "cpu"]
    frame_bytes = 3 * reading.preprocess.image_size**2
    if (
        not actors.gpus
    ):  # a model that is told nothing takes what looks free, and the decoders' CPUs do between two files
        model = replace(model, threads=max(1, actors.cpus))
    options = {"model": model, "identity": identity, "batch_size": batch_size}
    with _hushed():
        dataset = data.from_arrow([_table(part) for part in parts])
        context = dataset.context
        context.enable_progress_bars = context.print_on_execution_start = False
        context.target_max_block_size = frames_at_once * frame_bytes  # small blocks: the encoder waits for the first
        context.execution_no_progress_timeout_s = STALLED
        dataset = dataset.map_batches(
            guarded, fn_kwargs={"stage": decode, "reading": reading, "frames_at_once": frames_at_once}, num_cpus=1,
            memory=DECODER_MEMORY, batch_size=None, batch_format="pyarrow", zero_copy_batch=True,
        )  # fmt: skip
        dataset = dataset.map_batches(
            Guarded, fn_constructor_kwargs={"make": Embed, "options": options},
            compute=data.ActorPoolStrategy(size=actors.count), num_cpus=actors.cpus, num_gpus=actors.gpus,
            batch_size=frames_at_once if actors.gpus else None,  # Ray asks for a number where there are GPUs
            batch_format="pyarrow", zero_copy_batch=True,
        )  # fmt: skip
        tables = iter(dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0))
    while True:
        try:
            with _hushed():
                table = next(tables, None)
        except MidsightError:
            raise
        except Exception as error:  # Ray's own, a worker's, or that of a connection that is gone
            raise ClusterError(_reason(error)) from error
        if table is None:
            return
        yield table


@contextmanager
def _hushed() -> Iterator[None]:
    """Without the warnings that Ray gives about itself."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"ray\.")
        yield


def _reason(error: BaseException) -> str:
    """The last line of what a worker said, which is the error itself."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _table(part: Part) -> Any:
    """A part's inputs as one Arrow table."""
    import pyarrow as pa

    return pa.table(
        {
            "part": pa.array([part.number] * len(part.inputs), pa.int32()),
            "input": pa.array(range(len(part.inputs)), pa.int32()),
            "name": pa.array([row_name(one) for one in part.inputs], pa.string()),
            "place": pa.array([os.fsencode(one.place) for one in part.inputs], pa.binary()),
        }
    )
