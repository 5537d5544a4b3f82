"""Local files of a benchmark: its lists, with errors that say where they are wrong, and its media."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from midsight.errors import InputError
from midsight.evaluate.metrics.choices import LETTERS
from midsight.files import safe_join

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Media:
    """Where a benchmark's pictures or videos may lie under its folder."""

    folder: Path
    places: Sequence[str]  # subfolders in order; "" is the folder itself

    def find(self, name: str) -> Path:
        """The file of a name that a list gives, in the first place that has it; in the first place if none does.

        Lists often name a folder of their own in front, which need not be there.

        Raises:
            InputError: the name leads out of the folder.
        """
        names = [name] if "/" not in name else [name, name.rsplit("/", 1)[-1]]
        tries = [safe_join(self.folder, f"{place}/{one}" if place else one) for one in names for place in self.places]
        return next((path for path in tries if path.is_file()), tries[0])


def find_list(folder: Path, *names: str) -> Path:
    """The list of questions: the first pattern that one file under the folder, or one level down, fits.

    Raises:
        InputError: no such folder, no such file, or several.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder; --data wants the folder of the benchmark")
    for name in names:
        found = sorted({*folder.glob(name), *folder.glob(f"*/{name}")})
        if len(found) > 1:
            listed = ", ".join(str(path.relative_to(folder)) for path in found[:5])
            raise InputError(f"{folder}: several files fit {name}: {listed}. Keep one of them in the folder")
        if found:
            return found[0]
    raise InputError(f"{folder}: has no list of questions; expected {' or '.join(names)} in it or one folder below")


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        InputError: it cannot be read, or is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        raise InputError(f"{path}: is no JSON ({error}); the file may be cut") from error


def read_lines(path: Path) -> Iterator[Any]:
    """The objects of a JSONL file.

    Raises:
        InputError: it cannot be read, or a line is no JSON.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _parsed(line, path, number)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error


def listed(value: Any, key: str, path: Path) -> list[Any]:
    """The list under a key of the file's object.

    Raises:
        InputError: there is none.
    """
    found = value.get(key) if isinstance(value, Mapping) else None
    if not isinstance(found, list):
        raise InputError(f"{path}: has no list {key!r}; this is another layout, or another file of the benchmark")
    return found


def checked(rows: Iterable[Any], path: Path, **fields: type | tuple[type, ...]) -> Iterator[Row]:
    """The rows, each an object with these fields of these types.

    Raises:
        InputError: one is not; the message gives its number, from 0.
    """
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise InputError(f"{path}: entry {number} is no object")
        for name, kind in fields.items():
            if not isinstance(row.get(name), kind):
                what = "has no" if name not in row else f"has {row[name]!r:.80} as"
                hint = "; lists of test splits come without answers" if name.startswith("answer") else ""
                raise InputError(f"{path}: entry {number} {what} {name!r}, expected {_names(kind)}{hint}")
        yield cast(Row, row)


def right_option(index: Any, options: Sequence[str], path: Path, name: str) -> int:
    """The index of the right option, which lists give as a number or as text.

    Raises:
        InputError: it names none of the options, or there are more than letters for them.
    """
    if len(options) > len(LETTERS):
        raise InputError(f"{path}: question {name} has {len(options)} options, expected at most {len(LETTERS)}")
    try:
        found = int(index)
    except (TypeError, ValueError):
        found = -1
    if not 0 <= found < len(options):
        raise InputError(f"{path}: question {name} has answer {index!r}, but options 0 to {len(options) - 1}")
    return found


def _names(kind: type | tuple[type, ...]) -> str:
    names = {"str": "a text", "int": "a number", "list": "a list", "dict": "an object", "float": "a number"}
    kinds = kind if isinstance(kind, tuple) else (kind,)
    return " or ".join(dict.fromkeys(names.get(one.__name__, one.__name__) for one in kinds))


def _parsed(line: str, path: Path, number: int) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise InputError(f"{path}: line {number} is no JSON ({error}); the file may be cut") from error
