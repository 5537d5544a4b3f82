"""Imports of large libraries. No torch."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_gc() -> Iterator[None]:
    """Looks for no cyclic garbage meanwhile.

    An import makes some hundred thousand objects that stay. Going through them again and again finds nothing, and is
    a fifth of the time that `import torch` takes.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
