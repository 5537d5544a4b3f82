"""What a job has finished: a journal in the folder of its results, in `.midsight`.

An input is finished when the journal says so, the file has neither another size nor another time of change, and the
main results are still there. Results appear whole, so whatever a kill leaves behind is either finished or not there.
"""

import re
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from midsight.errors import InputError, OutputError
from midsight.files import Journal
from midsight.library.dense.plan import Item

FOLDER, JOURNAL = ".midsight", "journal.jsonl"
VERSION = 1


class State:
    """The journal of one folder of results, open for writing.

    Attributes:
        records: of finished inputs, by key: name, file_name, kind, stamp, frames.
    """

    def __init__(self, out: Path, settings: Mapping[str, Any], folders: Sequence[str]) -> None:
        """
        Args:
            out: is made where it is missing.
            settings: what the results depend on, as JSON.
            folders: those below `out` that results go to.

        Raises:
            InputError: `out` holds results of other settings.
            OutputError: `out` cannot be made, holds such folders of somebody else, or another job works on it.
        """
        self.out = out
        path = out / FOLDER / JOURNAL
        foreign = [name for name in folders if _holds_something(out / name)]
        if not path.is_file() and foreign:
            raise OutputError(
                f"{out}: holds {foreign[0]}, which no job of midsight made, so it is left alone. Name another folder."
            )
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{out}: could not be made ({error.strerror or error})") from error
        self._journal = Journal(path)
        self._journal.append({"opened": round(time.time())})  # takes the lock; two jobs must not share a folder
        try:
            self.records = self._read(dict(settings))
            _sweep([out / FOLDER, *(out / name for name in folders)])
        except BaseException:
            self.close()
            raise

    def is_done(self, item: Item, files: Sequence[str]) -> bool:
        """Whether an input needs no more work."""
        record = self.records.get(item.key)
        if item.kind == "camera" or record is None or record["stamp"] != item.stamp:
            return False
        return all((self.out / name).exists() for name in files)

    def add(self, item: Item, frames: int) -> None:
        """Notes that an input is finished."""
        record: dict[str, Any] = {"key": item.key, "name": item.name, "file_name": item.file_name, "kind": item.kind}
        record |= {"stamp": item.stamp, "frames": frames}
        self._journal.append(record)
        self.records[item.key] = record

    def close(self) -> None:
        """Lets another job in."""
        self._journal.close()

    def _read(self, settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
        lines = [record for record in self._journal if "opened" not in record]
        if not lines:
            self._journal.append({"job": "dense", "version": VERSION, "settings": settings})
            return {}
        if lines[0].get("job") != "dense" or lines[0].get("version") != VERSION:
            raise InputError(f"{self.out}: holds results of another version of midsight. {_WHAT_TO_DO}")
        earlier = lines[0]["settings"]
        named = sorted(
            {*earlier, *settings} - {"model"}
        )  # what a model is called does not matter, what it computes does
        different = [key for key in named if earlier.get(key) != settings.get(key)]
        if different:
            raise InputError(f"{self.out}: holds results of {_told(different, earlier, settings)}. {_WHAT_TO_DO}")
        return known_records(self.out)


_WHAT_TO_DO = "Name another folder, repeat the earlier command to go on with it, or begin anew with --restart."


def known_records(out: Path) -> dict[str, dict[str, Any]]:
    """What the journal of a folder of results says of each input, by key; nothing where there is none.

    Raises:
        InputError: `out` is a file.
        OutputError: the journal is broken.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file. Name a folder for the results.")
    return {record["key"]: record for record in Journal(out / FOLDER / JOURNAL) if "key" in record}


def _told(different: Sequence[str], earlier: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    if "task" in different:
        return f"`midsight {earlier.get('task')}`"
    if "identity" in different:
        return f"another model ({earlier.get('model')}; now {now.get('model')})"
    return "other settings (" + ", ".join(f"{key} {earlier.get(key)}, now {now.get(key)}" for key in different) + ")"


def _holds_something(folder: Path) -> bool:
    return folder.exists() and (not folder.is_dir() or any(folder.iterdir()))


def _sweep(folders: Sequence[Path]) -> None:
    """Removes the unfinished files that a kill left; videos can be large."""
    for folder in folders:
        for path in folder.rglob(".*.tmp"):
            if re.fullmatch(r"\..+\.[0-9a-f]{12}\.tmp", path.name):
                path.unlink(missing_ok=True)


def restart(out: Path) -> None:
    """Forgets what was finished, so that everything is done again; the results stay until they are replaced.

    Raises:
        OutputError: another job works on the folder, or the journal cannot be removed.
    """
    folder = out / FOLDER
    if not (folder / JOURNAL).is_file():
        return
    with Journal(folder / JOURNAL) as journal:
        journal.append({"opened": round(time.time())})
    try:
        for path in folder.iterdir():  # all but the journal, so that a kill in between leaves a folder that is ours
            if path.name != JOURNAL:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        with open(folder / JOURNAL, "wb"):
            pass  # an empty journal: the results in `out` are still known to be ours
    except OSError as error:
        raise OutputError(f"{folder}: could not be emptied ({error.strerror or error}). Remove it by hand.") from error
