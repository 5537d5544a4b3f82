"""Batches that the memory does not last for: told from other errors, and done again in halves."""

import gc
from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")


def within_memory(work: Callable[..., T], size: int) -> tuple[T, int]:
    """What work gives with batches of this size, or of half of it where the memory is out, and so on down to 1.

    Args:
        work: takes `batch_size`.

    Returns:
        The result, and the size that the memory lasted for.

    Raises:
        Exception: what work raises, if it is another error, or with a batch of 1.
    """
    while True:
        try:
            return work(batch_size=size), size
        except Exception as error:
            if size == 1 or not is_out_of_memory(error):
                raise
        # behind the block: until then the error holds the frames that hold the memory
        size //= 2
        free_memory()


def is_out_of_memory(error: Exception) -> bool:
    """Whether a batch was too large for the memory: torch has a class for a GPU's, and only words for a CPU's."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(
        words in str(error) for words in ("not enough memory", "out of memory", "allocate memory")
    )


def free_memory() -> None:
    """Give back what nothing uses."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
