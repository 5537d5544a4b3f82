"""Where the rows of an index lie: one small interface, LanceDB behind it by default, Qdrant as a choice.

`base` has the columns and the interface, `lance` and `qdrant` keep it, `open_store` picks one by its address.
"""

from midsight.library.stores.base import COLUMNS, EVERYTHING, Filter, Match, Store, empty_rows, row_schema
from midsight.library.stores.opening import open_store

__all__ = ["COLUMNS", "EVERYTHING", "Filter", "Match", "Store", "empty_rows", "open_store", "row_schema"]
