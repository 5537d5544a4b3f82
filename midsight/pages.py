"""Pages of mapped files: resident no longer once the weights in them lie elsewhere, too.

A checkpoint's tensors are views of its mapped file. Whoever lays them out anew, in another dtype or in oneDNN's layout,
has read every page of them, and the system keeps those pages in memory beside the copy until it is short of it.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch
    from torch import Tensor

_ENTRY = np.dtype("<u8")  # of /proc/self/pagemap, one for each page
_PRESENT, _SWAPPED, _OF_A_FILE = (np.uint64(1 << bit) for bit in (63, 62, 61))  # Documentation/admin-guide/mm/pagemap


def release(tensors: Iterable[Tensor]) -> int:
    """Drop the resident pages of tensors that are still as their file has them; they stay readable, from the file.

    Memory that no file backs, and a mapped page that was written to, is another copy that nobody could read again: a
    tensor with any such page is left alone, and so are tensors on other devices and all tensors on systems without
    Linux's pagemap.

    Returns:
        Bytes of the tensors whose pages were dropped.
    """
    libc = _libc()
    if libc is None:
        return 0
    released = 0
    try:
        with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
            for tensor in tensors:
                if tensor.device.type == "cpu":
                    first, last = _whole_pages(tensor)
                    if last > first and _of_a_file(pagemap.fileno(), first, last):
                        released += 0 if libc.madvise(first, last - first, mmap.MADV_DONTNEED) else tensor.nbytes
    except OSError:  # no pagemap, or none for us
        return released
    return released


def cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """The tensor in another dtype, its own pages given back; itself where it has that dtype already."""
    result = tensor.to(dtype)
    if result is not tensor:
        release([tensor])
    return result


def _whole_pages(tensor: Tensor) -> tuple[int, int]:
    """First address and the one behind the last of the pages that belong to this tensor alone."""
    size, start = mmap.PAGESIZE, tensor.data_ptr()
    if not tensor.is_contiguous():  # others may lie in between
        return 0, 0
    return -(-start // size) * size, (start + tensor.nbytes) // size * size


def _of_a_file(pagemap: int, first: int, last: int) -> bool:
    count = (last - first) // mmap.PAGESIZE
    entries = np.frombuffer(
        os.pread(pagemap, count * _ENTRY.itemsize, first // mmap.PAGESIZE * _ENTRY.itemsize), _ENTRY
    )
    anonymous = (entries & _PRESENT != 0) & (entries & _OF_A_FILE == 0)
    return len(entries) == count and not bool((anonymous | (entries & _SWAPPED != 0)).any())


@cache
def _libc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return libc
