"""The embedding job on Ray: what does a picture cost there, beside the plain job on the same CPUs?"""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import media
from benchmarks.common import fresh, ratio
from benchmarks.report import Section

CPUS = 2  # for the plain job one that decodes and one that encodes; for Ray a decoder and an actor
PHOTOGRAPHS = 32  # made anew; more names are links to them
FEW, MANY = 64, 320
ROUNDS = 7
GOAL = 1 / 1.15  # of the plain job's speed: a slowdown of 15 %
INTRO = (
    "Made photographs of 2.5 MP by the embedded model: `midsight embed --ray` on a local cluster of "
    f"{CPUS} CPUs against `midsight embed` on the same {CPUS}. Each round does {FEW} and {MANY} files on both "
    "sides, in turn; the difference of the two is what a further picture costs, without what it takes to start. "
    "Both write what they always write: parts, and the result."
)


Job = Callable[[str], Iterator[None]]
Rounds = list[list[list[float]]]  # of each round, for few and for many files: seconds of the clock, and of CPUs
CLOCK, CPU = 0, 1


def run() -> Section:
    """Both jobs in one process, in turn."""
    section = Section("The embedding job on Ray", INTRO)
    with tempfile.TemporaryDirectory() as scratch:
        folders = [str(_links(Path(scratch), count)) for count in (FEW, MANY)]
        times = fresh("benchmarks.ray_jobs:measure", scratch, folders, ROUNDS).value
    section.rows = [row(times, of) for of in (CLOCK, CPU)]
    begin, whole = ({who: of(times[who]) for who in ("ray", "plain")} for of in (start, all_of_many))
    section.notes.append(
        f"Actors, decoders and models take the cluster {begin['ray']:.1f} s to start for each job (median; the cluster "
        f"itself was up), the plain job {begin['plain']:.1f} s. The fewer the files, the more that counts: whole jobs "
        f"of {MANY} files took {whole['ray']:.1f} s and {whole['plain']:.1f} s."
    )
    section.notes.append(
        "CPU time is that of the whole tree of processes, Ray's own servers included. On a machine with other work, "
        "wall-clock time favours whoever has more processes; CPU time does not."
    )
    return section


def row(times: dict[str, Rounds], of: int) -> dict[str, str]:
    """A line of the table."""
    found = ratio(*(per_picture(times[who], of) for who in ("ray", "plain")), "the plain job")
    ours, theirs = (1000 * _median(per_picture(times[who], of)) for who in ("ray", "plain"))
    return {
        "Case": ("wall-clock time", "CPU time")[of],
        "Speed": str(found),
        "Goal": f">= {GOAL:.2f}x, " + ("met" if found.median >= GOAL else "**missed**"),
        "Per image": f"{ours:.3g} ms (the plain job {theirs:.3g} ms)",
    }


def per_picture(rounds: Rounds, of: int = CLOCK) -> list[float]:
    """Seconds that a further picture takes, from the times of few and of many."""
    return [(many[of] - few[of]) / (MANY - FEW) for few, many in rounds]


def start(rounds: Rounds) -> float:
    """Seconds that a job takes beside its pictures: the median."""
    return _median([few[CLOCK] - FEW * each for (few, _), each in zip(rounds, per_picture(rounds), strict=True)])


def all_of_many(rounds: Rounds) -> float:
    """Seconds of the job with many files: the median."""
    return _median([many[CLOCK] for _, many in rounds])


def measure(scratch: str, folders: list[str], rounds: int) -> dict[str, Rounds]:
    """Times of each job on each folder, for each round; runs in a process of its own."""
    import midsight
    from midsight.library.jobs.cluster import connected

    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CPUS])
    model = midsight.load()
    with connected() as ray:
        jobs: dict[str, Job] = {
            "plain": lambda folder: plain_job(model, folder, scratch),
            "ray": lambda folder: ray_job(ray, folder, scratch),
        }
        for job in jobs.values():
            _times(job, folders[0])
        times: dict[str, Rounds] = {who: [] for who in jobs}
        for _ in range(rounds):
            for who, job in jobs.items():
                times[who].append([_times(job, folder) for folder in folders])
    return times


def plain_job(model: Any, folder: str, scratch: str) -> Iterator[None]:
    """What `midsight embed` does; stops when the last row is there, and then writes the result."""
    from midsight.library.embed import EmbedJob
    from midsight.library.scan import find_media

    with EmbedJob(model, find_media([folder]), Path(scratch, "plain.parquet")) as job:
        for _ in job.run():
            pass
        yield
        job.finish()


def ray_job(ray: Any, folder: str, scratch: str) -> Iterator[None]:
    """What `midsight embed --ray` does, in the same way."""
    from midsight.library.jobs.inputs import find_inputs
    from midsight.library.jobs.job import RayJob
    from midsight.library.jobs.stages import Model

    output = Path(scratch, "ray")
    shutil.rmtree(output, ignore_errors=True)
    job = RayJob(Model(), find_inputs([folder]), str(output))
    for _ in job.run(ray):
        if job.done == job.total:
            yield  # its processes are all there still, with what they have used
    job.finish()


def _times(job: "Job", folder: str) -> list[float]:
    begun, used = time.perf_counter(), _cpu_of_tree()
    steps = job(folder)
    next(steps)
    cpu = sum(now - used.get(process, 0) for process, now in _cpu_of_tree().items())
    for _ in steps:
        pass
    return [time.perf_counter() - begun, cpu]


def _cpu_of_tree() -> dict[int, float]:
    """CPU seconds of this process and all below it, by process; one that ends in between takes its own along."""
    import psutil

    used = {}
    here = psutil.Process()
    for process in [here, *here.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            used[process.pid] = times.user + times.system
    return used


def _links(scratch: Path, count: int) -> Path:
    """A folder of so many names."""
    made = scratch / "made"
    paths = sorted(made.glob("*.jpg")) or media.write_jpegs(made, PHOTOGRAPHS)
    folder = scratch / f"{count}"
    folder.mkdir()
    for number in range(count):
        os.link(paths[number % len(paths)], folder / f"{number:04d}.jpg")
    return folder


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]
