"""What a job leaves behind: its parts, and what they are of.

A part is one Parquet file whose name depends on the job and on the inputs in it, and which appears whole or not at all.
So its name alone says that it is done, however often and by whomever it was written. `_job.json` tells the job from
others, `_manifest.json` comes last and lists the parts of the finished result. Readers of Parquet folders pass over
names that begin with "_" or ".".
"""

import json
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from midsight.errors import InputError, MediaError, MissingDependencyError, OutputError
from midsight.library.embed import other_work
from midsight.library.jobs import storage
from midsight.library.tables import Block, write_parquet

HEAD, MANIFEST = "_job.json", "_manifest.json"
LANCE = ".lance"
_READERS = 16


@dataclass(frozen=True)
class Counted:
    """A part that is whole."""

    name: str
    rows: int
    failures: int  # rows without an embedding


class Checkpoint:
    """The folder of a job's parts, on a disk or in an object store.

    Args:
        output: where the result goes: the folder itself, or, for `NAME.lance`, a Lance table beside it.
    """

    def __init__(self, output: str) -> None:
        self.output = output
        named = storage.without_query(output).rstrip("/")
        self.is_lance = named.endswith(LANCE)
        self.place = named + (".partial" if self.is_lance else "") + storage.query_of(output)
        self.name = storage.without_query(self.place)

    def open(self, head: Mapping[str, Any]) -> set[str]:
        """Takes over what an earlier run left.

        Args:
            head: what the job is, as JSON.

        Returns:
            The names of the parts that are whole.

        Raises:
            InputError: the earlier run was of another model, other inputs or other options.
            OutputError: the folder is not one of a job, or cannot be written.
        """
        names = self._names()
        if HEAD not in names:
            self._check_ours(names)
            self._make()
            self._write(HEAD, head)
            return set()
        earlier = self._read(HEAD)
        different = [key for key, value in head.items() if earlier.get(key) != value]
        if different:
            what = other_work(earlier, head, different)
            raise InputError(f"{self.name}: holds work of {what}, which is not mixed with this. {self._start_over()}")
        return {name for name in names if name.startswith("part-") and name.endswith(".parquet")}

    def keep(self, name: str, block: Block, dim: int, about: Mapping[str, str]) -> Counted:
        """Writes a part, whole or not at all.

        Raises:
            OutputError: it could not be written.
        """
        storage.write(storage.below(self.place, name), lambda file: write_parquet(file, [block], dim, about))
        return Counted(name, len(block.rows), sum(row.error is not None for row in block.rows))

    def count(self, names: Sequence[str]) -> list[Counted]:
        """Rows of parts that earlier runs wrote, from the ends of their files.

        Raises:
            InputError: a part is damaged.
        """
        with ThreadPoolExecutor(_READERS) as pool:
            return list(pool.map(self._count, names))

    def finish(self, parts: Sequence[Counted], about: Mapping[str, str]) -> None:
        """Makes the result of the parts.

        Raises:
            OutputError: it could not be written; the parts are intact.
            MissingDependencyError: Lance without lancedb.
        """
        if self.is_lance:
            self._write_lance([part.name for part in parts])
            self.remove()
            return
        self._write(MANIFEST, {"about": dict(about), "parts": [asdict(part) for part in parts]})
        known = {part.name for part in parts}
        self._delete([name for name in self._names() if name.startswith((".part-", "part-")) and name not in known])

    def remove(self) -> None:
        """Throws away all of a job's files, if there are any.

        Raises:
            OutputError: the folder is not one of a job, or a file cannot be removed.
        """
        names = self._names()
        self._check_ours(names)
        ours = [name for name in names if name.startswith((".part-", "part-"))]
        self._delete([*ours, *(name for name in (MANIFEST, HEAD) if name in names)])  # the head last: it says whose
        if self.is_lance and not storage.is_url(self.place):
            system, path = storage.open_place(self.place)
            if names and not self._names():
                system.delete_dir(path)

    def _check_ours(self, names: Collection[str]) -> None:
        """A folder of that name that no job made is not ours to use or to delete."""
        if names and HEAD not in names:
            raise OutputError(
                f"{self.name}: holds files and is not the folder of an embedding job, so it is left alone. "
                "Name another folder."
            )

    def _start_over(self) -> str:
        return "Repeat the earlier command to go on with it, or start over by --restart."

    def _names(self) -> list[str]:
        from pyarrow.fs import FileSelector, FileType

        system, path = storage.open_place(self.place)
        try:
            if system.get_file_info(path).type == FileType.File:
                raise OutputError(f"{self.name}: is a file. The result is a folder of parts; name a folder.")
            found = system.get_file_info(FileSelector(path, allow_not_found=True))
        except OSError as error:
            raise OutputError(f"{self.name}: cannot be listed ({error}).") from error
        return [one.base_name for one in found if one.base_name]

    def _make(self) -> None:
        if not storage.needs_folders(self.place):
            return
        system, path = storage.open_place(self.place)
        try:
            system.create_dir(path, recursive=False)
        except OSError as error:
            raise OutputError(f"{self.name}: the folder could not be made ({error}).") from error

    def _write(self, name: str, value: Mapping[str, Any]) -> None:
        data = json.dumps(value, indent=1).encode()
        storage.write(storage.below(self.place, name), lambda file: file.write(data))

    def _read(self, name: str) -> dict[str, Any]:
        place = storage.below(self.place, name)
        try:
            value = json.loads(storage.read(place, f"{self.name}/{name}"))
        except (MediaError, ValueError) as error:
            raise OutputError(f"{self.name}/{name}: cannot be read ({error}). {self._start_over()}") from error
        return value if isinstance(value, dict) else {}

    def _delete(self, names: Sequence[str]) -> None:
        for name in names:
            system, path = storage.open_place(storage.below(self.place, name))
            try:
                system.delete_file(path)
            except OSError as error:
                raise OutputError(f"{self.name}/{name}: could not be removed ({error}).") from error

    def _count(self, name: str) -> Counted:
        import pyarrow as pa
        import pyarrow.parquet as pq

        system, path = storage.open_place(storage.below(self.place, name))
        try:
            with system.open_input_file(path) as file:
                found = pq.ParquetFile(file).metadata
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{self.name}/{name}: is damaged ({error}). {self._start_over()}") from error
        groups = [found.row_group(number) for number in range(found.num_row_groups)]
        column = found.schema.names.index("error")
        empty = sum(group.column(column).statistics.null_count for group in groups)
        return Counted(name, found.num_rows, found.num_rows - empty)

    def _write_lance(self, names: Sequence[str]) -> None:
        import pyarrow.dataset as ds

        lancedb = check_lance()
        system, path = storage.open_place(self.place)
        parts = ds.dataset([f"{path}/{name}" for name in names], filesystem=system, format="parquet")
        folder, _, table = storage.without_query(self.output).rstrip("/").rpartition("/")
        try:
            database = lancedb.connect(folder or ".")
            database.create_table(table.removesuffix(LANCE), parts.scanner().to_reader(), mode="overwrite")
        except (OSError, RuntimeError, ValueError) as error:
            raise OutputError(f"{self.output}: could not be written ({error}). All parts are kept.") from error


def check_lance() -> Any:
    """The package that writes Lance.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import lancedb
    except ImportError as error:
        raise MissingDependencyError(
            "writing Lance needs lancedb, which is not installed: pip install lancedb; or name a folder for Parquet"
        ) from error
    return lancedb
