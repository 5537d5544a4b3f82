"""Work in a copy of this process, while this one goes on: large imports, which threads would make one after the other.

with beside(lambda: embed(words)) as embedded:
    library = Library("photos")
    library.search(query, embedded())
"""

import contextlib
import os
import pickle
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NoReturn, TypeVar

from midsight.errors import MidsightError

T = TypeVar("T")


@contextmanager
def beside(work: Callable[[], T]) -> Iterator[Callable[[], T]]:
    """Begins the work in another process; gives a function that waits for what it returns, or raises.

    Where that cannot be, the function does the work itself: elsewhere than on Linux, and where torch is loaded, whose
    threads a copy would lack.

    Raises:
        MidsightError: from the function, where the other process was killed.
    """
    if sys.platform != "linux" or "torch" in sys.modules:
        yield work
        return
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads: numpy's know that there are copies
        child = os.fork()
    if not child:
        _answer(work, writing)
    os.close(writing)
    with open(reading, "rb") as file:
        try:
            yield partial(_result, file.read)
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _answer(work: Callable[[], object], writing: int) -> NoReturn:
    """In the copy: works, tells what came of it, and leaves without what its parent has to do at its end."""
    try:
        answer: tuple[str, object] = ("returned", work())
    except BaseException as error:  # noqa: BLE001 (raised in the other process)
        if not isinstance(error, MidsightError):
            error.add_note(traceback.format_exc())  # its own does not come over
        answer = ("raised", error)
    with contextlib.suppress(OSError), open(writing, "wb") as file:
        file.write(pickle.dumps(answer))
    os._exit(0)


def _result(read: Callable[[], bytes]) -> T:  # type: ignore[type-var]  # of the work's type
    data = read()
    if not data:
        raise MidsightError("the process that was to load the model was killed; is the memory out?")
    what, value = pickle.loads(data)  # of our own copy
    if what == "raised":
        raise value
    return value
