"""`python -m benchmarks [QUESTION ...]`: measure, print, and write each question's section of `RESULTS.md`.

Every question gets a process of its own, so that none finds another's memory, threads or caches.
"""

import os

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

import importlib  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402

QUESTIONS = (
    "image",
    "text",
    "jpeg",
    "tokenizer",
    "folder",
    "search",
    "ray_jobs",
    "startup",
    "video",
    "tracking",
    "trunk",
    "plm",
    "quantised",
    "busy",
    "serve",
    "gpu",
)


def measure(name: str) -> None:
    """One question, here."""
    from benchmarks import machine, report

    load, start = machine.load_average(), time.perf_counter()
    found = importlib.import_module(f"benchmarks.{name}").run()
    section = found.text(report.footer(time.perf_counter() - start, load))
    report.write(name, section, QUESTIONS)
    print(section, flush=True)


def main(names: list[str]) -> int:
    """Exit code: 0, 1 where a question could not be measured, 2 for an unknown one."""
    unknown = [name for name in names if name not in QUESTIONS]
    if unknown:
        print(f"there is no question {', '.join(unknown)}; there are {', '.join(QUESTIONS)}", file=sys.stderr)
        return 2
    if len(names) == 1:
        measure(names[0])
        return 0
    failed = []
    for name in names or QUESTIONS:
        print(f"--- {name}", flush=True)
        if subprocess.run([sys.executable, "-m", "benchmarks", name], check=False).returncode:
            failed.append(name)
    if failed:
        print(f"not measured: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
