"""An index behind a server: asked in a few threads, each with a `Library` of its own, never in the event loop's.

await collection.ask(lambda library: library.count())
"""

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from midsight.errors import InputError, MidsightError
from midsight.library.index import Hit, Library
from midsight.library.index.library import Identified
from midsight.serve.errors import ApiError
from midsight.serve.places import full

T = TypeVar("T")
THREADS = 2  # an exact search is one core's work
WAITING = 512  # questions at once, pictures of a page among them
KNOWN = 20_000  # hits that are remembered, so that their pictures are not looked up one by one


class Collection:
    """The index of a folder, for one model.

    Attributes:
        folder: the index.
        root: the folder that was indexed.

    Raises:
        InputError: no index, or one of another model than the server's.
    """

    def __init__(self, folder: Path, model: Identified, timeout: float = 30.0) -> None:
        self._model, self._timeout = model, timeout
        with Library(folder) as library:
            library.check(model)
            self.folder, self.root = library.folder, library.root
        self._threads = ThreadPoolExecutor(THREADS, "midsight-search")
        self._own = threading.local()
        self._opened: list[Library] = []
        self._waiting = 0
        self._hits: OrderedDict[str, Hit] = OrderedDict()

    def close(self) -> None:
        """No more questions."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        while self._opened:
            self._opened.pop().close()

    async def ask(self, work: Callable[[Library], T]) -> T:
        """What `work` makes of the index, as it is now.

        Raises:
            ApiError: 400 what the library says of a question, 503 too much waits or the index is another's now, 504.
        """
        if self._waiting >= WAITING:
            raise full(f"{WAITING} questions to the index wait, the limit of this server")
        self._waiting += 1
        try:
            async with asyncio.timeout(self._timeout):
                return await asyncio.get_running_loop().run_in_executor(self._threads, self._work, work)
        except TimeoutError:
            raise ApiError(504, f"no answer of the index within {self._timeout:g} seconds", "timeout") from None
        except RuntimeError as error:
            if "shutdown" not in str(error):
                raise
            raise ApiError(503, "the server is being stopped", "stopping") from None
        finally:
            self._waiting -= 1

    async def hit(self, identifier: str) -> Hit:
        """One row by its id.

        Raises:
            ApiError: 404, there is none; and as `ask`.
        """
        if (known := self._hits.get(identifier)) is not None:
            return known
        found = await self.ask(lambda library: row_of(library, identifier))
        self.remember([found])
        return found

    def remember(self, hits: list[Hit]) -> None:
        """Hits whose pictures will be asked for soon."""
        for hit in hits:
            self._hits[hit.id] = hit
            self._hits.move_to_end(hit.id)
        while len(self._hits) > KNOWN:
            self._hits.popitem(last=False)

    def _work(self, work: Callable[[Library], T]) -> T:
        library: Library | None = getattr(self._own, "library", None)
        if library is None:
            library = self._own.library = Library(self.folder)
            self._opened.append(library)
        library.refresh()
        try:
            library.check(self._model)
        except InputError as error:
            raise ApiError(503, f"the index was made anew since the server started: {error}", "index_changed") from None
        try:
            return work(library)
        except MidsightError as error:
            raise ApiError(400, str(error), "invalid_value") from None


def row_of(library: Library, identifier: str) -> Hit:
    """A row, or ApiError 404."""
    if library.store.row(identifier) is None:
        raise ApiError(404, f"the index has no item {identifier:.64}; it may have been removed", "item_not_found")
    return library.hit(identifier)
