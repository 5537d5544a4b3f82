"""Files that are never half written: atomic write, content hash, journal for resuming, safe paths. No torch."""

import contextlib
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from midsight.errors import InputError, OutputError

StrPath = str | os.PathLike[str]


@contextmanager
def atomic_write(path: StrPath) -> Iterator[IO[bytes]]:
    """A binary file that takes the place of `path` only when the block ends well.

    The bytes go to a temporary file in the same folder, are flushed to the disk and then renamed over `path`. Whatever
    goes wrong before that (an exception, a full disk, Ctrl-C, a kill), what was at `path` stays as it was.

    Raises:
        OutputError: the folder does not exist, the disk is full, or `path` is not a regular file.
    """
    target = Path(os.path.realpath(path))  # a link stays a link: what it points to is replaced
    if target.exists() and not target.is_file():
        raise OutputError(f"{path}: is not a regular file, so it cannot be replaced. Name a file.")
    temporary = target.with_name(f".{target.name[:200]}.{secrets.token_hex(6)}.tmp")
    try:
        try:
            with open(temporary, "xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if target.exists():
                os.chmod(temporary, stat.S_IMODE(target.stat().st_mode))
            os.replace(temporary, target)
            _sync_folder(target.parent)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
    except FileNotFoundError as error:
        raise OutputError(f"{path}: the folder {target.parent} does not exist. Make it first.") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"{path}: could not be written ({reason}). What was there before is intact.") from error


def _sync_folder(folder: Path) -> None:
    """Makes a rename last through a power cut, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def content_hash(path: StrPath) -> str:
    """SHA-256 of the file's bytes, 64 hexadecimal digits, read in pieces.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}). Expected a file.") from error


def safe_join(root: StrPath, name: str) -> Path:
    """`root / name`, resolved, for names that come from outside (a table, an archive, a request).

    Raises:
        InputError: the name is empty, absolute, or leads out of `root` by "..", a drive or a link.
    """
    base = Path(root).resolve()
    parts = name.replace("\\", "/").split("/")
    if not name or "\0" in name or name.startswith(("/", "\\")) or ":" in parts[0] or ".." in parts:
        raise InputError(f"{name!r}: not a name inside {base}. Expected a relative path without '..'.")
    path = (base / name).resolve()
    if not path.is_relative_to(base):
        raise InputError(f"{name!r}: leads out of {base} (to {path}). Expected a file inside it.")
    return path


class Journal:
    """What a long job has done so far: a file with one JSON object a line, only ever appended to.

    A kill can leave the last line incomplete. Reading leaves that line out, and the next `append` removes it. Each
    record is handed to the system before `append` returns; `close` also waits for the disk. One writer at a time.
    """

    def __init__(self, path: StrPath) -> None:
        self.path = Path(path)
        self._file: IO[bytes] | None = None

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The complete records, oldest first; none when there is no file.

        Raises:
            OutputError: the file cannot be read, or a line that is not the last is no JSON object.
        """
        try:
            with open(self.path, "rb") as file:
                for number, line in enumerate(file, start=1):
                    if not line.endswith(b"\n"):
                        return  # torn by a kill
                    yield self._parse(line, number)
        except FileNotFoundError:
            return
        except OSError as error:
            raise OutputError(f"{self.path}: the journal cannot be read ({error.strerror or error}).") from error

    def _parse(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict):
            raise OutputError(
                f"{self.path}: line {number} of the journal is not a JSON object. Delete the file to start over."
            )
        return record

    def append(self, record: dict[str, Any]) -> None:
        """Adds one record.

        Raises:
            OutputError: the disk is full, or another process is writing this journal.
        """
        line = json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        try:
            if self._file is None:
                self._file = self._open()
            self._file.write(line)
        except OSError as error:
            raise OutputError(f"{self.path}: the journal cannot be written ({error.strerror or error}).") from error

    def resume(self, arguments: dict[str, Any], key: str) -> dict[str, dict[str, Any]]:
        """What a job with these arguments has done, by each record's `key`; a fresh journal gets them as first line.

        Raises:
            OutputError: the journal is that of a job with other arguments.
        """
        entries = list(self)
        if not entries:
            self.append(arguments)
        elif entries[0] != arguments:
            differing = ", ".join(name for name in arguments if entries[0].get(name) != arguments[name])
            raise OutputError(
                f"{self.path}: another build ({differing} differ). Give its arguments, or another folder, or delete it."
            )
        return {entry[key]: entry for entry in entries[1:]}

    def _open(self) -> IO[bytes]:
        file = open(self.path, "ab+", buffering=0)  # noqa: SIM115 (closed by close)
        try:
            _lock(file)
            file.truncate(_end_of_last_line(file))
        except BaseException:
            file.close()
            raise
        return file

    def close(self) -> None:
        """Waits until the records are on the disk, and lets another writer in."""
        if self._file is not None:
            try:
                os.fsync(self._file.fileno())
            except OSError as error:
                raise OutputError(f"{self.path}: the journal cannot be written ({error.strerror or error}).") from error
            finally:
                self._file.close()
                self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def _lock(file: IO[bytes]) -> None:
    try:
        import fcntl
    except ImportError:  # Windows: without the lock, two writers are the user's affair
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OutputError(f"{file.name}: another process is writing this journal. Wait for it or stop it.") from None


def _end_of_last_line(file: IO[bytes], piece: int = 1 << 16) -> int:
    """Offset just behind the last newline, found from the end."""
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - piece)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def available_cpus(root: StrPath = "/") -> int:
    """CPUs that this process may really use, at least 1: its affinity, cut by the quota of its control group.

    A container with 2 of a host's 64 CPUs gets 2 here, where `os.cpu_count()` says 64.

    Args:
        root: where /proc and /sys are looked for.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = _cgroup_quotas(Path(root))
    return max(1, min(affinity, *(int(q) for q in quotas)) if quotas else affinity)


def _cgroup_quotas(root: Path) -> list[float]:
    """CPU limits of the process's control group and of every group around it; version 1 and 2."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    quotas = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        bases = ("sys/fs/cgroup/cpu", f"sys/fs/cgroup/{controllers}") if controllers else ("sys/fs/cgroup",)
        for base in bases:
            here = (root / base / group.lstrip("/")).parts
            # In a container the group's own path is often not mounted, but the base is: look at every level.
            for depth in range(len((root / base).parts), len(here) + 1):
                quota = _quota_of(Path(*here[:depth]))
                if quota is not None:
                    quotas.append(quota)
    return quotas


def _quota_of(folder: Path) -> float | None:
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
            return None if quota == "max" else int(quota) / int(period)
        limit = int((folder / "cpu.cfs_quota_us").read_text())
        return limit / int((folder / "cpu.cfs_period_us").read_text()) if limit > 0 else None
    return None
