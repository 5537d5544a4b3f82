"""What people say of files: a table of labels, and the decisions that the review page gives."""

import csv
import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from midsight.errors import InputError

Labels = dict[Path, dict[str, bool]]  # for each file the categories about which something is known

_YES = frozenset({"1", "yes", "y", "true", "x"})
_NO = frozenset({"0", "no", "n", "false"})


def read_labels(path: Path, categories: Sequence[str]) -> Labels:
    """A CSV file with a column `file` and one for each category, with yes, no, or nothing where it is not known.

    Yes may also be 1, y, true or x; no may be 0, n or false. Files are relative to the table's folder.

    Raises:
        InputError: cannot be read, or a cell that cannot be; the message names the line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file)
            names = [cell.strip() for cell in next(rows, [])]
            _check_head(path, names, categories)
            labels: Labels = {}
            for row in rows:
                if any(cell.strip() for cell in row):
                    name, known = _row(f"{path}: line {rows.line_num}", names, row)
                    if path.parent / name in labels:
                        raise InputError(f"{path}: line {rows.line_num}: {name} is there twice")
                    labels[path.parent / name] = known
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else f"it is no CSV in UTF-8: {error}"
        raise InputError(f"{path}: cannot be read ({reason}); expected a table of labels") from None
    if not labels:
        raise InputError(f"{path}: holds no labelled files; expected one on each line behind the first")
    return labels


def _check_head(path: Path, names: Sequence[str], categories: Sequence[str]) -> None:
    if not names or names[0] != "file":
        first = names[0] if names else "nothing"
        raise InputError(
            f"{path}: line 1: the first column is {first!r}; expected `file`, then the names of categories "
            f"({', '.join(categories)})"
        )
    for name in names[1:]:
        if name not in categories:
            nearest = difflib.get_close_matches(name, categories, 1)
            hint = f"did you mean {nearest[0]!r}?" if nearest else f"it has {', '.join(categories)}"
            raise InputError(f"{path}: line 1: the policy has no category {name!r}; {hint}")
        if names.count(name) > 1:
            raise InputError(f"{path}: line 1: the column {name!r} is there twice")
    if len(names) < 2:
        raise InputError(f"{path}: line 1: no column for a category; the policy has {', '.join(categories)}")


def _row(where: str, names: Sequence[str], row: Sequence[str]) -> tuple[str, dict[str, bool]]:
    if len(row) > len(names):
        raise InputError(f"{where}: {len(row)} cells, but line 1 has {len(names)} columns")
    file = row[0].strip()
    if not file:
        raise InputError(f"{where}: no file is named in the first column")
    known = {}
    for name, cell in zip(names[1:], row[1:], strict=False):
        word = cell.strip().lower()
        if word and word not in _YES | _NO:
            raise InputError(f"{where}: {cell!r} under {name!r}; expected yes, no, or nothing where it is not known")
        if word:
            known[name] = word in _YES
    return file, known


def read_decisions(path: Path, categories: Sequence[str] | None = None) -> Labels:
    """Decisions as the review page exports them: JSONL with path, category, and decision "yes" or "no".

    Of two decisions on the same file and category the later one counts.

    Args:
        categories: those of the policy; decisions about others are passed over. None: take all.

    Raises:
        InputError: cannot be read, or a line that is no decision; the message names the line.
    """
    labels: Labels = {}
    for number, record in _records(path):
        known = isinstance(record, Mapping) and all(isinstance(record.get(key), str) for key in ("path", "category"))
        if not known or record.get("decision") not in ("yes", "no"):
            raise InputError(f'{path}: line {number}: expected path, category, and decision "yes" or "no"')
        if categories is None or record["category"] in categories:
            labels.setdefault(Path(record["path"]), {})[record["category"]] = record["decision"] == "yes"
    return labels


def _records(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    try:
                        yield number, json.loads(line)
                    except ValueError as error:
                        raise InputError(f"{path}: line {number}: is not JSON ({error})") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InputError(f"{path}: cannot be read ({reason}); expected decisions of the review page") from None


def merged(first: Labels, second: Labels) -> Labels:
    """Both; where they disagree the second counts. Files are told apart by their full path."""
    found: Labels = {}
    for labels in (first, second):
        for path, known in labels.items():
            found.setdefault(path.resolve(), {}).update(known)
    return found
