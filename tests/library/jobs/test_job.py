"""Whole jobs on a local cluster of two CPUs: killed at every part of it, and the same rows as without it."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import midsight
from midsight.errors import InputError, OutputError
from midsight.library.embed import EmbedJob
from midsight.library.jobs import cluster, decoder, stages
from midsight.library.jobs.inputs import find_inputs
from midsight.library.jobs.job import Options, RayJob, restart
from midsight.library.jobs.stages import Model
from midsight.library.tables import Row

pytestmark = pytest.mark.slow

CLIP = next((Path(midsight.__file__).parent / "assets" / "demo").glob("*.mp4"))
COUNT = 120
BROKEN = (3, 77)
TOLERANCE = 1e-6  # of a number in an embedding: batches are cut in another way
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """Two CPUs, a GPU that is none, and a small object store."""
    found, handler = cluster.import_ray(), signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)  # the workers have them from here
        found.init(
            num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False, object_store_memory=80 << 20,
            logging_level="ERROR",
        )  # fmt: skip
        # What the tests below hand over is not on the workers' path
        found.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        try:
            yield found
        finally:
            found.shutdown()
            signal.signal(signal.SIGTERM, handler)  # Ray leaves its own in place, which other tests would meet


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures, two of them broken."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i in range(COUNT):
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(folder / f"{i:03d}.png")
    for i in BROKEN:
        (folder / f"{i:03d}.png").write_bytes(b"broken")
    return folder


@pytest.fixture(scope="module")
def expected(tiny_model: midsight.Perception, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What `midsight embed` gives without a cluster."""
    return plain(tiny_model, photos, tmp_path_factory.mktemp("plain") / "out.parquet")


def plain(model: midsight.Perception, folder: Path, output: Path, **options: Any) -> Any:
    with EmbedJob(model, sorted(folder.iterdir()), output, **options) as job:
        list(job.run())
        job.finish()
    return pq.read_table(output)


def make(tiny_folder: Path, photos: Path | str, output: Path | str, **options: Any) -> RayJob:
    settings = Options(**{"part_inputs": 20, "actors": 1} | options)
    return RayJob(Model(str(tiny_folder), device="cpu"), find_inputs([str(photos)]), str(output), settings)


def same(found: Any, expected: Any) -> None:
    """Every row once, in the same order, with the same words and numbers."""
    assert found.schema.equals(expected.schema, check_metadata=True)
    columns = ["path", "start", "end", "error"]
    assert found.select(columns).to_pylist() == expected.select(columns).to_pylist()
    ours, theirs = (table["embedding"].to_pylist() for table in (found, expected))
    assert [one is None for one in ours] == [one is None for one in theirs]
    good = [(a, b) for a, b in zip(ours, theirs, strict=True) if a is not None]
    np.testing.assert_allclose([a for a, _ in good], [b for _, b in good], atol=TOLERANCE, rtol=0)


def whole(output: Path) -> list[Path]:
    return sorted(output.glob("part-*.parquet"))


def workers(word: str) -> list[psutil.Process]:
    """Processes of this test's cluster whose name or command has the word in it."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if word in " ".join(process.cmdline()):
                found.append(process)
    return found


class Slow(stages.Embed):
    """An actor at a pace at which a test can do something in the middle."""

    def _encode(self, clips: Any) -> Any:
        time.sleep(0.04 * len(clips))
        return super()._encode(clips)


def slowly(table: Any, **options: Any) -> Iterator[Any]:
    """A decoder at such a pace."""
    for row in range(table.num_rows):
        time.sleep(0.04)
        yield from stages.decode(table.slice(row, 1), **options)


class Raising(stages.Embed):
    """An actor that fails on every 20th batch."""

    calls = 0

    def _encode(self, clips: Any) -> Any:
        self.calls += 1
        if self.calls % 20 == 10:
            raise RuntimeError("one of 20 batches")
        return super()._encode(clips)


def test_rows_and_numbers_are_those_of_embed(
    ray: Any, tiny_folder: Path, tiny_model: midsight.Perception, photos: Path, expected: Any, tmp_path: Path
) -> None:
    job = make(tiny_folder, photos, tmp_path / "out")
    rows = [row for rows in job.run(ray) for row in rows]
    assert len(rows) == COUNT
    summary = job.finish()
    assert (summary.inputs, summary.rows, summary.failures) == (COUNT, COUNT, len(BROKEN))
    same(pq.read_table(tmp_path / "out"), expected)
    again = make(tiny_folder, photos, tmp_path / "out")
    assert list(again.run(ray)) == []
    assert again.finish() == summary


def test_videos_odd_names_and_actors_on_gpus(
    ray: Any, tiny_folder: Path, tiny_model: midsight.Perception, photos: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    for name in (b"a.png", b"caf\xe9.png", b"kaf\xc3\xa9.png"):
        Path(folder, os.fsdecode(name)).write_bytes((photos / "001.png").read_bytes())
    (folder / "b.mp4").write_bytes(CLIP.read_bytes())
    (folder / "c.mp4").write_bytes(b"no video")
    options: dict[str, Any] = {"segment_seconds": 0.7, "num_frames": 2}
    job = make(tiny_folder, folder, tmp_path / "out", **options)
    assert job._model.device == "cpu"
    job._model = Model(str(tiny_folder), device="auto")  # the cluster says that it has a GPU
    list(job.run(ray))
    assert job.finish().failures == 1
    same(pq.read_table(tmp_path / "out"), plain(tiny_model, folder, tmp_path / "plain.parquet", **options))


@pytest.mark.parametrize("victim", ["MapWorker", "MapBatches(guarded)", "midsight.library.jobs.child"])
def test_a_killed_worker_costs_nothing(
    ray: Any, tiny_folder: Path, photos: Path, expected: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    victim: str,
) -> None:  # fmt: skip
    if victim == "MapWorker":
        monkeypatch.setattr(cluster, "Embed", Slow)
    else:
        monkeypatch.setattr(cluster, "decode", slowly)
    job = make(tiny_folder, photos, tmp_path / "out")
    killed = []
    for _ in job.run(ray):
        if len(killed) < 2 and job.done >= 20 * (1 + 2 * len(killed)) and (found := workers(victim)):
            killed.append(found[0].pid)
            os.kill(found[0].pid, signal.SIGKILL)
            assert job.done < COUNT
    assert killed
    job.finish()
    same(pq.read_table(tmp_path / "out"), expected)


def test_batches_that_raise(
    ray: Any, tiny_folder: Path, photos: Path, expected: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = tmp_path / "lost"

    def losing(table: Any, **options: Any) -> Iterator[Any]:
        """A decoder that fails once, in the middle of the third part."""
        for one in stages.decode(table, **options):
            yield one.slice(0, 7)
            if table["part"][0].as_py() == 2 and not lost.exists():
                lost.touch()
                raise RuntimeError("a whole block")
            yield one.slice(7)

    monkeypatch.setattr(cluster, "Embed", Raising)
    monkeypatch.setattr(cluster, "decode", losing)
    job = make(tiny_folder, photos, tmp_path / "out", part_inputs=5)
    rows = [row for rows in job.run(ray) for row in rows]
    assert lost.exists()
    assert len({row.path for row in rows}) == COUNT
    job.finish()
    same(pq.read_table(tmp_path / "out"), expected)


def test_files_that_hang_or_kill_their_decoder(
    ray: Any, tiny_folder: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.library.jobs.test_decoder import FAULTY

    def faulty(table: Any, **options: Any) -> Iterator[Any]:
        decoder.COMMAND = (sys.executable, "-c", FAULTY)
        return stages.decode(table, **options)

    folder = tmp_path / "faulty"
    folder.mkdir()
    for name in ("a.png", "hang.png", "kill.png", "z.png"):
        (folder / name).write_bytes((photos / "001.png").read_bytes())
    monkeypatch.setattr(cluster, "decode", faulty)
    job = make(tiny_folder, folder, tmp_path / "out", file_seconds=1.5)
    list(job.run(ray))
    assert job.finish().failures == 2
    errors = {row["path"].rpartition("/")[2]: row["error"] for row in pq.read_table(tmp_path / "out").to_pylist()}
    assert "took longer than 1.5 s" in errors["hang.png"]
    assert "killed by SIGSEGV" in errors["kill.png"]
    assert (errors["a.png"], errors["z.png"]) == (None, None)


# The command itself, at a pace at which a test can kill it.
PACED = """
import time
from midsight.library.jobs import cluster, job, stages
class Slow(stages.Embed):
    def _encode(self, clips):
        time.sleep(0.04 * len(clips))
        return stages.Embed._encode(self, clips)
cluster.Embed = Slow
job.Options.__dataclass_fields__["part_inputs"].default = 20
job.Options.__init__.__defaults__ = tuple(20 if one == 1024 else one for one in job.Options.__init__.__defaults__)
from midsight.cli.main import main
main()
"""


def command(ray: Any, tiny_folder: Path, photos: Path, output: Path) -> list[str]:
    address = ray.get_runtime_context().gcs_address
    options = ["--ray", "--ray-address", address, "--actors", "1", "--model", str(tiny_folder), "--device", "cpu"]
    return [sys.executable, "-c", PACED, "embed", str(photos), "-o", str(output), *options]


@pytest.mark.parametrize("signals", [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)])
def test_a_stopped_driver_goes_on_where_it_was(
    ray: Any, tiny_folder: Path, photos: Path, expected: Any, tmp_path: Path, signals: tuple[int, int]
) -> None:
    output, (number, code) = tmp_path / "out", signals
    started = subprocess.Popen(
        command(ray, tiny_folder, photos, output), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    deadline = time.monotonic() + 120
    while len(whole(output)) < 2 and started.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    started.send_signal(number)
    said = started.communicate(timeout=60)[0]
    assert started.returncode == code, said
    kept = {path: path.stat().st_mtime_ns for path in whole(output)}
    assert 2 <= len(kept) < COUNT // 20
    (output / ".part-000005-0123456789abcdef.parquet.a1b2.tmp").write_bytes(b"half of a part")
    job = make(tiny_folder, photos, output)
    assert job.done == 20 * len(kept)
    rows: list[Row] = [row for rows in job.run(ray) for row in rows]
    assert len(rows) == COUNT - 20 * len(kept), "only the rest is done again"
    job.finish()
    same(pq.read_table(output), expected)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    others = sorted(path.name for path in output.iterdir() if path not in whole(output))
    assert others == ["_job.json", "_manifest.json"], "a part is its own checkpoint; half of one goes"
    if number == signal.SIGINT:
        assert f"stopped: {20 * len(kept)} of {COUNT} inputs are done and kept in {output}" in " ".join(said.split())


def test_other_work_is_not_mixed(ray: Any, tiny_folder: Path, photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    make(tiny_folder, photos, output)
    with pytest.raises(InputError, match="work of other options .num_frames 8, now 4.*--restart"):
        make(tiny_folder, photos, output, num_frames=4)
    inputs = find_inputs([str(photos)])
    with pytest.raises(InputError, match="work of another model"):
        RayJob(Model(str(tiny_folder), device="cpu", layer=0), inputs, str(output), Options(part_inputs=20))
    with pytest.raises(InputError, match="work of other inputs .120 files, now 119"):
        RayJob(Model(str(tiny_folder), device="cpu"), inputs[1:], str(output), Options(part_inputs=20))
    restart(str(output))
    assert make(tiny_folder, photos, output, num_frames=4).done == 0


def test_more_actors_than_cpus(ray: Any, tiny_folder: Path, photos: Path, tmp_path: Path) -> None:
    job = make(tiny_folder, photos, tmp_path / "out", actors=2)
    with pytest.raises(InputError, match="the cluster has 2 CPUs, and one has to decode"):
        list(job.run(ray))
    with pytest.raises(InputError, match="120 inputs are not embedded yet"):
        job.finish()


def test_other_weights_on_a_machine_of_the_cluster(ray: Any, tiny_folder: Path, photos: Path, tmp_path: Path) -> None:
    job = make(tiny_folder, photos, tmp_path / "out")
    job._identity = "what the driver found"
    with pytest.raises((InputError, OutputError), match="not those of the machine that started the job"):
        list(job.run(ray))


@pytest.fixture
def bucket() -> Iterator[tuple[Any, str]]:
    """An S3 server on this machine with a bucket in it: its file system, and the query that leads to it."""
    import logging

    from moto.server import ThreadedMotoServer
    from pyarrow.fs import FileSystem

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    query = f"?endpoint_override=http://{host}:{port}&region=us-east-1"
    try:
        system, _ = FileSystem.from_uri(f"s3://media/{query}&allow_bucket_creation=true")
        system.create_dir("media")
        yield system, query
    finally:
        server.stop()


def test_from_s3_to_s3(
    ray: Any, tiny_folder: Path, tiny_model: midsight.Perception, photos: Path, expected: Any, tmp_path: Path,
    bucket: tuple[Any, str],
) -> None:  # fmt: skip
    system, query = bucket
    files = {f"photos/{i:03d}.png": photos / f"{i:03d}.png" for i in range(40)} | {"photos/z.mp4": CLIP}
    for name, path in files.items():
        with system.open_output_stream(f"media/{name}") as file:
            file.write(path.read_bytes())
    job = make(tiny_folder, f"s3://media/photos{query}", f"s3://media/results/first{query}")
    rows = job.run(ray)
    while job.done < 20:
        next(rows)
    rows.close()  # type: ignore[attr-defined]  # a generator
    job = make(tiny_folder, f"s3://media/photos{query}", f"s3://media/results/first{query}")
    assert job.done >= 20
    list(job.run(ray))
    assert job.finish().failures == 1
    found = pq.read_table("media/results/first", filesystem=system)
    assert found["path"].to_pylist() == [f"s3://media/{name}" for name in sorted(files)]
    (tmp_path / "z").mkdir()
    (tmp_path / "z/z.mp4").symlink_to(CLIP)
    local = pa.concat_tables(
        [expected.slice(0, 40), plain(tiny_model, tmp_path / "z", tmp_path / "z.parquet")]
    ).combine_chunks()
    errors = [error and error.replace(f"{photos}", "s3://media/photos") for error in local["error"].to_pylist()]
    local = local.set_column(0, "path", found["path"]).set_column(4, local.schema.field("error"), pa.array(errors))
    same(found, local)
    system.delete_dir("media/photos")
    with pytest.raises(InputError, match="s3://media/photos: no pictures or videos"):
        find_inputs([f"s3://media/photos{query}"])


def test_ray_says_nothing_and_warns_of_nothing(
    tiny_folder: Path, photos: Path, ray: Any, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    job = make(tiny_folder, photos / "001.png", tmp_path / "out")
    list(job.run(ray))
    assert [str(warning.message) for warning in recwarn] == []
    assert threading.current_thread() is threading.main_thread()
