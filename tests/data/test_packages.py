"""Data packages: archives are unpacked only inside their folder, and every failure says what happened."""

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from midsight.data import packages
from midsight.errors import InputError, MissingDependencyError


def test_a_wheel_is_unpacked(tmp_path: Path) -> None:
    archive = tmp_path / "a.whl"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("inside/picture.txt", "x")
    packages.unpack(archive, tmp_path / "out")
    assert (tmp_path / "out/inside/picture.txt").read_text() == "x"


def test_a_wheel_that_leaves_the_folder_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "a.whl"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("../../escaped.txt", "x")
    with pytest.raises(InputError, match="would leave"):
        packages.unpack(archive, tmp_path / "deep/out")
    assert not (tmp_path / "escaped.txt").exists()


def test_a_tarball_that_leaves_the_folder_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "a.tgz"
    with tarfile.open(archive, "w:gz") as file:
        member = tarfile.TarInfo("../escaped.txt")
        member.size = 1
        file.addfile(member, io.BytesIO(b"x"))
    with pytest.raises(InputError, match="not trusted"):
        packages.unpack(archive, tmp_path / "out")
    assert not (tmp_path / "escaped.txt").exists()


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("x")
    with pytest.raises(InputError, match="neither a wheel"):
        packages.unpack(path, tmp_path / "out")


def test_an_unknown_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a known data package"):
        packages.fetch("leftpad", tmp_path)


def test_a_fetched_package_is_not_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "a.whl"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("x.txt", "x")
    calls = []
    monkeypatch.setattr(packages, "_download", lambda package, folder: calls.append(package.name) or archive)
    first, second = (packages.fetch("@lobehub/fluent-emoji-3d", tmp_path) for _ in range(2))
    assert first == second == tmp_path / "lobehub-fluent-emoji-3d"
    assert calls == ["@lobehub/fluent-emoji-3d"]


def test_a_failing_client_is_reported() -> None:
    with pytest.raises(InputError, match="status 3: no such thing"):
        packages._run("sh", "-c", "echo no such thing >&2; exit 3")


def test_a_missing_client_is_reported() -> None:
    with pytest.raises(MissingDependencyError, match="no-such-client"):
        packages._run("no-such-client")
