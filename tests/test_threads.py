"""The thread policy, on made-up /proc trees and on this machine."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from midsight import threads
from midsight.files import available_cpus


def machine(root: Path, running: str) -> Path:
    (root / "proc").mkdir()
    (root / "proc/loadavg").write_text(f"0.50 0.40 0.30 {running}/321 12345\n")
    return root


def test_an_idle_machine_is_used_whole(tmp_path: Path) -> None:
    assert threads.free_cpus(machine(tmp_path, "1")) == available_cpus(tmp_path)


def test_a_busy_machine_leaves_one_thread(tmp_path: Path) -> None:
    assert threads.free_cpus(machine(tmp_path, str(1 + 2 * (os.cpu_count() or 1)))) == 1


@pytest.mark.parametrize("text", ["", "0.1 0.2", "0.1 0.2 0.3 x/y 1"])
def test_an_unreadable_count_means_nobody_else(tmp_path: Path, text: str) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/loadavg").write_text(text)
    assert threads.running_tasks(tmp_path) == 1
    assert threads.running_tasks(tmp_path / "nowhere") == 1


def test_settle_sets_torch(tmp_path: Path) -> None:
    import torch

    before = torch.get_num_threads()
    try:
        assert threads.settle(fixed=1) == torch.get_num_threads() == 1
        expected = threads.free_cpus(machine(tmp_path, "1"))
        assert threads.settle(root=tmp_path) == torch.get_num_threads() == expected
    finally:
        torch.set_num_threads(before)


def test_busy_neighbours_are_seen() -> None:
    spin = "import time\nend = time.time() + 20\nwhile time.time() < end: pass"
    others = [subprocess.Popen([sys.executable, "-c", spin]) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        seen = max(threads.running_tasks() for _ in range(20_000))
    finally:
        for process in others:
            process.kill()
            process.wait()
    assert seen > len(others) / 2


FAULTS = """
import resource, sys
import torch
from midsight import threads
if sys.argv[1] == "keep":
    assert threads.keep_freed_memory()
torch.set_num_threads(1)
def work():
    kept = [torch.ones(10 << 20) for _ in range(4)]  # 40 MB each
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator is a Linux matter")
def test_kept_memory_is_not_faulted_in_again() -> None:
    faults = [
        int(subprocess.run([sys.executable, "-c", FAULTS, word], check=True, capture_output=True, text=True).stdout)
        for word in ("keep", "leave")
    ]
    assert faults[0] < faults[1] / 4


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is asked")
def test_kept_memory_can_be_given_back() -> None:
    code = (
        "import numpy as np; from midsight.threads import keep_freed_memory, trim\n"
        "def held(): return int(open('/proc/self/statm').read().split()[1]) * 4096\n"
        "keep_freed_memory(); blocks = [np.ones(1 << 18) for _ in range(64)]; full = held(); del blocks\n"
        "kept = held(); given = trim(); print(full - kept, kept - held(), given)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    at_once, later, given = done.stdout.split()
    assert int(at_once) < 16 << 20
    assert (int(later) > 100 << 20, given) == (True, "True")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux knows priorities of threads")
def test_a_thread_steps_back_alone_and_with_those_that_it_starts() -> None:
    def priority() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    found: list[int] = []

    def work() -> None:
        before = priority()
        assert threads.step_back(3)
        own = threading.Thread(target=lambda: found.append(priority() - before))
        own.start()
        own.join()
        assert threads.step_back(100)
        found.extend((priority(), before))

    ours = priority()
    other = threading.Thread(target=work)
    other.start()
    other.join()
    assert found == [3, 19, ours]
    assert priority() == ours
