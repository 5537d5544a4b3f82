"""How many threads to compute with: the CPUs that are both ours and free, read anew before each piece of work.

Two busy programs that each start a thread per CPU do not share them, they wait for each other at every barrier: torch
then burns many times the CPU time of one thread. Other numbers than these (a host's count, a load average of the last
minute) tell too little.
"""

import os
from pathlib import Path

from midsight.files import available_cpus


def settle(fixed: int | None = None, root: Path = Path("/")) -> int:
    """Set torch's thread count for the work that comes next, and return it.

    Args:
        fixed: use just this many; None follows the machine.
        root: where /proc is looked for.
    """
    import torch

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
