"""Which store an address means."""

from pathlib import Path

from midsight.errors import InputError
from midsight.library.stores.base import Store

QDRANT = "qdrant:"


def open_store(address: str | Path, dim: int, *, create: bool = False) -> Store:
    """The store at an address.

    Args:
        address: a folder or an object store's address ("s3://bucket/photos") is LanceDB; "qdrant:FOLDER",
            "qdrant::memory:" and "qdrant:http://host:6333/collection" are Qdrant.
        dim: numbers of an embedding.
        create: make it where there is none.

    Raises:
        InputError: there is none, or it holds embeddings of another size.
        MissingDependencyError: its package is not installed.
    """
    text = str(address)
    if text.startswith(QDRANT):
        from midsight.library.stores.qdrant import QdrantStore

        return QdrantStore(text.removeprefix(QDRANT), dim, create=create)
    if "://" not in text and text.partition(":")[2] and not Path(text).is_absolute():
        raise InputError(
            f"{text}: no store is called {text.partition(':')[0]!r}; give a folder, s3://... or qdrant:..."
        )
    from midsight.library.stores.lance import LanceStore

    return LanceStore(text, dim, create=create)
