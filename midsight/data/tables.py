"""CSV, TSV and JSONL: one picture or video a row, with its caption. Rows are found by their place in the file.

A path in a table is relative to the table, or absolute: a table is its owner's own, unlike a shard.
"""

import csv
import io
import json
import os
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from midsight.data.samples import (
    CAPTION_FIELDS,
    MAX_TEXT_BYTES,
    BadSample,
    Problem,
    Sample,
    caption_in,
    caption_of,
    kind_of,
    text_of,
)  # fmt: skip
from midsight.errors import InputError
from midsight.files import content_hash

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl")
MEDIA_FIELDS = ("image", "video", "path", "file", "filepath", "file_name", "filename", "media")
LABEL_FIELDS = ("label", "class", "class_name", "name")  # captions of tables that were made for classification


@dataclass(frozen=True)
class TablePart:
    """One table. The first line of a CSV names the columns.

    Args:
        media_fields, caption_fields: columns, the first that is there and not empty.
    """

    path: Path
    media_fields: tuple[str, ...] = MEDIA_FIELDS
    caption_fields: tuple[str, ...] = CAPTION_FIELDS + LABEL_FIELDS
    needs_caption: bool = True

    @property
    def name(self) -> str:
        return self.path.name

    def fingerprint(self) -> str:
        """Of the table's bytes; the media it names are not looked at."""
        return content_hash(self.path)

    @property
    def names_classes(self) -> bool:
        """Whether captions come from a column of labels, and no column is there for captions; told by the first row."""
        try:
            names = self._first_names() if self.path.suffix.lower() == ".jsonl" else self._columns
        except BadSample:
            return False
        written = [name for name in self.caption_fields if name in names]
        return bool(written) and set(written) <= set(LABEL_FIELDS)

    def listing(self) -> Sequence[Any]:
        """Numbers of rows, or one problem where there are none."""
        rows = len(self._offsets) - 1
        return range(rows) if rows > 0 else [Problem(self.name, "empty table", "has no rows")]

    def record(self, entry: int | Problem) -> tuple[str, dict[str, Any]]:
        """What a row says of itself, under its key; its media are not looked at.

        Raises:
            BadSample: it is no row.
        """
        if isinstance(entry, Problem):
            raise entry.error()
        key = f"{self.name}:{entry + 1}"
        start, end = self._offsets[entry], self._offsets[entry + 1]
        if end - start > MAX_TEXT_BYTES:
            raise BadSample("broken row", f"{key}: {end - start} bytes long. Is a quotation mark missing?")
        with open(self.path, "rb") as file:
            file.seek(start)
            return key, self._record(key, file.read(end - start))

    def read(self, entry: int | Problem) -> Sample:
        key, record = self.record(entry)
        place = next((value for name in self.media_fields if isinstance(value := record.get(name), str) and value), "")
        if not place:
            raise BadSample("missing path", f"{key}: names no file. Expected one of {', '.join(self.media_fields)}.")
        kind = kind_of(os.path.splitext(place)[1])
        if kind is None:
            raise BadSample("neither picture nor video", f"{key}: {place} ends like neither a picture nor a video.")
        expected = f"one of the columns {', '.join(self.caption_fields)}"
        caption = caption_of(key, caption_in(record, self.caption_fields), expected, self.needs_caption)
        return Sample(key, self.path.parent / place, caption, kind, record)

    def _first_names(self) -> Sequence[str]:
        if len(self._offsets) < 2:
            return []
        with open(self.path, "rb") as file:
            file.seek(self._offsets[0])
            return list(self._record(f"{self.name}:1", file.read(self._offsets[1] - self._offsets[0])))

    def _record(self, key: str, data: bytes) -> dict[str, Any]:
        text = text_of(key, data)
        if self.path.suffix.lower() == ".jsonl":
            try:
                record = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise BadSample("broken row", f"{key}: not JSON ({error}).") from error
            if not isinstance(record, dict):
                raise BadSample("broken row", f"{key}: a {type(record).__name__}, expected a JSON object.")
            return record
        try:
            values = next(csv.reader(io.StringIO(text, newline=""), delimiter=self._delimiter), [])
        except csv.Error as error:
            raise BadSample("broken row", f"{key}: {error}.") from error
        if len(values) != len(self._columns):
            raise BadSample("broken row", f"{key}: {len(values)} fields, the header has {len(self._columns)}.")
        return dict(zip(self._columns, values, strict=True))

    @property
    def _delimiter(self) -> str:
        return "\t" if self.path.suffix.lower() == ".tsv" else ","

    @cached_property
    def _columns(self) -> list[str]:
        with open(self.path, encoding="utf-8-sig", errors="replace", newline="") as file:
            columns = next(csv.reader(file, delimiter=self._delimiter), [])
        needed = [(self.media_fields, "files")] + [(self.caption_fields, "captions")] * self.needs_caption
        for fields, what in needed:
            if not set(fields) & set(columns):
                found = ", ".join(columns) or "nothing"
                raise InputError(f"{self.path}: no column with {what}: found {found}; expected {', '.join(fields)}.")
        return columns

    @cached_property
    def _offsets(self) -> "array[int]":
        """Where each row begins, and where the last one ends; bytes. 8 bytes a row are held."""
        try:
            with open(self.path, "rb") as file:
                rows = self._json_rows(file) if self.path.suffix.lower() == ".jsonl" else self._csv_rows(file)
                return array("q", rows)
        except OSError as error:
            raise InputError(f"{self.path}: cannot be read ({error.strerror or error}). Expected a table.") from error

    @staticmethod
    def _json_rows(file: IO[bytes]) -> Iterator[int]:
        start = 0
        for line in file:
            if line.strip():
                yield start
            start += len(line)
        yield start

    def _csv_rows(self, file: IO[bytes]) -> Iterator[int]:
        """Rows may hold line breaks between quotation marks, so the reader says where each ends."""
        assert self._columns
        lines = _Lines(file)
        reader = csv.reader(lines, delimiter=self._delimiter)
        start, header = 0, True
        while True:
            try:
                values = next(reader, None)
            except csv.Error:  # too long: it is found again, and counted, when it is read
                values = [""]
                reader = csv.reader(lines, delimiter=self._delimiter)
            if values is None:
                break
            if values and not header:
                yield start
            header = False
            start = lines.offset
        yield lines.offset


class _Lines:
    """Lines of a binary file as text, one character a byte; counts the bytes that were handed out."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.offset = file, 0

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = next(self._file)
        self.offset += len(line)
        return line.decode("latin-1")
