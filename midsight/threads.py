"""How a CPU is used: with how many threads, in which order, and with which memory.

Threads: the CPUs that are both ours and free, read anew before each piece of work.

Two busy programs that each start a thread per CPU do not share them, they wait for each other at every barrier: torch
then burns many times the CPU time of one thread. Other numbers than these (a host's count, a load average of the last
minute) tell too little.
"""

import ctypes
import os
import sys
import threading
from functools import cache
from pathlib import Path

from midsight.files import available_cpus

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
BEHIND = 5  # steps of priority that heavy work is behind what answers people
KEPT_BYTES = 1 << 28  # freed memory that is not given back to the system


def settle(fixed: int | None = None, root: Path = Path("/")) -> int:
    """Set torch's thread count for the work that comes next, and return it; freed memory is kept from then on.

    Args:
        fixed: use just this many; None follows the machine.
        root: where /proc is looked for.
    """
    import torch

    keep_freed_memory()
    threads = fixed or free_cpus(root)
    if threads != torch.get_num_threads():
        torch.set_num_threads(threads)
    return threads


def free_cpus(root: Path = Path("/")) -> int:
    """CPUs that this process may use and that nobody else is using now, at least 1.

    The kernel's count of runnable tasks covers the whole machine, so it is held against the machine's CPUs; affinity
    and the control group's quota limit the rest.
    """
    others = running_tasks(root) - 1  # this thread is running, too
    return max(1, min(available_cpus(root), (os.cpu_count() or 1) - max(0, others)))


def running_tasks(root: Path = Path("/")) -> int:
    """Tasks on a CPU or waiting for one at this moment, machine-wide; 1 where the kernel does not tell."""
    try:
        return int((root / "proc/loadavg").read_text().split()[3].split("/")[0])
    except (OSError, ValueError, IndexError):
        return 1


@cache
def keep_freed_memory() -> bool:
    """Let glibc keep freed memory for the next tensor instead of giving it back to the system each time.

    Without this, every large activation is mapped, zeroed page by page and unmapped again, which small towers feel
    most. Holds for the whole process; at most `KEPT_BYTES` stay unused.

    Returns:
        Whether the C library took the settings; False on systems without glibc.
    """
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    taken = [libc.mallopt(_TRIM_THRESHOLD, KEPT_BYTES), libc.mallopt(_MMAP_THRESHOLD, KEPT_BYTES)]
    return all(taken)


def step_back(by: int = BEHIND) -> bool:
    """Let this thread, and those that it will start, have the CPU after the other threads and programs.

    Args:
        by: how far, 0 to 19; each step is about a fifth less of a CPU that others want, too.

    Returns:
        Whether the system did so; only Linux knows priorities of threads.
    """
    if sys.platform != "linux":
        return False
    thread = threading.get_native_id()
    os.setpriority(os.PRIO_PROCESS, thread, min(19, os.getpriority(os.PRIO_PROCESS, thread) + by))
    return True


def trim() -> bool:
    """Give memory that is kept but not used back to the system.

    Returns:
        Whether the C library gave something back; False on systems without glibc.
    """
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None)
    return hasattr(libc, "malloc_trim") and bool(libc.malloc_trim(0))
