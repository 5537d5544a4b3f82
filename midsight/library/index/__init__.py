"""A folder that can be searched: `Indexer` keeps the index of it up to date, `Library` answers questions.

`manifest` says what an index was made with, `filetable` what became of every file, `scan` and `plan` what there is to
do, `decode` and `worker` read files in processes of their own, `indexer` puts rows into a store; `library` and `query`
search, `duplicates`, `clusters` and `report` look at the whole.

Who only asks needs no torch before there is something to embed: what indexes loads on first use.
"""

from typing import TYPE_CHECKING, Any

from midsight.library.index.filetable import FileRecord, FileTable
from midsight.library.index.library import Hit, Library, find_index
from midsight.library.index.manifest import About, Settings
from midsight.library.index.query import Query
from midsight.library.stores import Filter

if TYPE_CHECKING:
    from midsight.library.index.indexer import FileOutcome, Indexer, Summary

__all__ = [
    "About",
    "FileOutcome",
    "FileRecord",
    "FileTable",
    "Filter",
    "Hit",
    "Indexer",
    "Library",
    "Query",
    "Settings",
    "Summary",
    "find_index",
]


def __getattr__(name: str) -> Any:
    if name not in ("FileOutcome", "Indexer", "Summary"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from midsight.library.index import indexer

    return getattr(indexer, name)
