"""Files: nothing is half written, nothing leads out, nothing is believed about CPUs that is not so."""

import errno
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from midsight import files
from midsight.errors import InputError, OutputError
from midsight.files import Journal, atomic_write, available_cpus, content_hash, safe_join


def test_atomic_write_makes_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "out.bin"
    for content in (b"first", b"second"):
        with atomic_write(path) as file:
            file.write(content)
        assert path.read_bytes() == content
    assert [p.name for p in tmp_path.iterdir()] == ["out.bin"]


def test_atomic_write_keeps_rights_and_links(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "real").chmod(0o640)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with atomic_write(tmp_path / "link") as file:
        file.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"
    assert (tmp_path / "real").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("error", [ValueError("of the writer"), KeyboardInterrupt()])
def test_atomic_write_leaves_the_old_file_when_the_writer_fails(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "out.bin"
    path.write_bytes(b"old")

    def write() -> None:
        with atomic_write(path) as file:
            file.write(b"half")
            raise error

    with pytest.raises(type(error)):
        write()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_atomic_write_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.bin"
    path.write_bytes(b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OutputError, match=r"out\.bin: .*No space left") as caught, atomic_write(path) as file:
        file.write(b"new")
    assert "intact" in str(caught.value)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux's /dev/full")
def test_devices_are_never_replaced() -> None:
    with pytest.raises(OutputError, match="not a regular file"), atomic_write("/dev/full"):
        pass
    assert not os.path.isfile("/dev/full")


def test_atomic_write_names_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="Make it first"), atomic_write(tmp_path / "no" / "out.bin"):
        pass
    with pytest.raises(OutputError, match="not a regular file"), atomic_write(tmp_path):
        pass


def test_a_kill_in_the_middle_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "out.bin"
    path.write_bytes(b"old")
    code = (
        "import os, signal, sys\nfrom midsight.files import atomic_write\n"
        "with atomic_write(sys.argv[1]) as file:\n"
        "    file.write(b'half'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == -9
    assert path.read_bytes() == b"old"


def test_content_hash_is_sha256(tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    (tmp_path / "a").write_bytes(data)
    assert content_hash(tmp_path / "a") == hashlib.sha256(data).hexdigest()
    for bad in (tmp_path / "missing", tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            content_hash(bad)


@pytest.mark.parametrize("name", ["a.jpg", "b/c.jpg", "b/./c.jpg", "..a/b..jpg", "ä ö"])
def test_safe_join_accepts_names_inside(tmp_path: Path, name: str) -> None:
    assert safe_join(tmp_path, name) == (tmp_path / name).resolve()


@pytest.mark.parametrize(
    "name", ["", "/etc/passwd", "../a", "a/../../b", "a/..", "C:\\a", "..\\a", "\\\\host\\a", "a\0b"]
)
def test_safe_join_refuses_names_that_lead_out(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="not a name inside"):
        safe_join(tmp_path, name)


def test_safe_join_refuses_links_that_lead_out(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path)
    with pytest.raises(InputError, match="leads out"):
        safe_join(tmp_path / "root", "link/a")


# Journal


def test_journal_gives_back_what_was_appended(tmp_path: Path) -> None:
    records = [{"path": "ä.jpg", "n": i} for i in range(5)]
    with Journal(tmp_path / "j") as journal:
        for record in records:
            journal.append(record)
            assert list(journal)[-1] == record  # at once, not at the end
    with Journal(tmp_path / "j") as journal:
        assert list(journal) == records


def test_a_torn_last_line_is_left_out_and_then_removed(tmp_path: Path) -> None:
    path = tmp_path / "j"
    whole = "".join(json.dumps({"n": i, "pad": "x" * 50_000}) + "\n" for i in range(3)).encode()
    for cut in (len(whole) - 1, len(whole) - 40_000, 70_000, 10, 0):
        path.write_bytes(whole[:cut])
        kept = whole[:cut].count(b"\n")
        journal = Journal(path)
        assert [r["n"] for r in journal] == list(range(kept))
        journal.append({"n": "new"})
        journal.close()
        assert [r["n"] for r in Journal(path)] == [*range(kept), "new"]


def test_a_missing_journal_is_empty(tmp_path: Path) -> None:
    assert list(Journal(tmp_path / "j")) == []
    assert not (tmp_path / "j").exists()


@pytest.mark.parametrize("line", [b"not json\n", b"[1]\n", b"\xff\xfe\n"])
def test_a_broken_line_inside_is_named(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "j").write_bytes(b'{"n": 1}\n' + line + b'{"n": 2}\n')
    with pytest.raises(OutputError, match="line 2"):
        list(Journal(tmp_path / "j"))


@pytest.mark.skipif(sys.platform == "win32", reason="no file locks there")
def test_two_writers_of_one_journal_are_refused(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as first, Journal(tmp_path / "j") as second:
        first.append({"n": 1})
        with pytest.raises(OutputError, match="another process"):
            second.append({"n": 2})


def test_journal_on_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        Journal(tmp_path / "no" / "j").append({"n": 1})
    with pytest.raises(OutputError, match="cannot be read"):
        list(Journal(tmp_path))


# CPUs


@pytest.fixture
def eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def write(root: Path, **contents: str) -> None:
    for name, content in contents.items():
        path = root / name.replace("__", "/").replace("DOT", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


@pytest.mark.usefixtures("eight_cpus")
@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        ({}, 8),
        ({"proc__self__cgroup": "0::/\n", "sys__fs__cgroup__cpuDOTmax": "max 100000\n"}, 8),
        ({"proc__self__cgroup": "0::/\n", "sys__fs__cgroup__cpuDOTmax": "250000 100000\n"}, 2),
        ({"proc__self__cgroup": "0::/\n", "sys__fs__cgroup__cpuDOTmax": "50000 100000\n"}, 1),
        ({"proc__self__cgroup": "0::/\n", "sys__fs__cgroup__cpuDOTmax": "nonsense"}, 8),
        ({"proc__self__cgroup": "0::/a/b\n", "sys__fs__cgroup__a__cpuDOTmax": "300000 100000\n"}, 3),
        ({"proc__self__cgroup": "0::/unmounted/x\n", "sys__fs__cgroup__cpuDOTmax": "400000 100000\n"}, 4),
        (
            {
                "proc__self__cgroup": "4:memory:/m\n3:cpu,cpuacct:/d\n",
                "sys__fs__cgroup__cpu__d__cpuDOTcfs_quota_us": "600000",
                "sys__fs__cgroup__cpu__d__cpuDOTcfs_period_us": "100000",
            },
            6,
        ),
        (
            {
                "proc__self__cgroup": "3:cpu:/\n",
                "sys__fs__cgroup__cpu__cpuDOTcfs_quota_us": "-1",
                "sys__fs__cgroup__cpu__cpuDOTcfs_period_us": "100000",
            },
            8,
        ),
        ({"proc__self__cgroup": "0::/\n", "sys__fs__cgroup__cpuDOTmax": "3200000 100000\n"}, 8),
    ],
)
def test_available_cpus_knows_quotas(tmp_path: Path, contents: dict[str, str], expected: int) -> None:
    write(tmp_path, **contents)
    assert available_cpus(tmp_path) == expected


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity on this system")
def test_available_cpus_of_this_machine() -> None:
    assert 1 <= available_cpus() <= len(os.sched_getaffinity(0))
