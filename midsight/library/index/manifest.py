"""What an index was made with, and which of its generations is the one to ask.

An index is a folder: `index.json` names the root that was indexed and the current generation, a folder `g0001` beside
it. A generation is everything that one model made of the root: `about.json`, the rows, and the table of files. Another
model makes another generation; `index.json` changes to it, in one rename, when it is whole.
"""

import json
import os
import shutil
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from midsight.errors import ConfigError, InputError, OutputError
from midsight.files import atomic_write

if TYPE_CHECKING:
    from midsight.api import Perception

FORMAT = 1  # of the folder; a newer one is refused
NAME = ".midsight"  # of the folder inside the root
MANIFEST, ABOUT, ROWS, FILES, LOCK = "index.json", "about.json", "rows", "files.db", "lock"


@dataclass(frozen=True)
class Settings:
    """How files become rows; the same for all rows of an index.

    Attributes:
        clip_seconds: length of the stretches that a video is cut into.
        frames: frames that are looked at in each.
    """

    clip_seconds: float = 10.0
    frames: int = 8

    def __post_init__(self) -> None:
        if not self.clip_seconds > 0 or self.frames < 1:
            raise ConfigError(f"clip_seconds and frames must be above 0, got {self.clip_seconds} and {self.frames}")


@dataclass(frozen=True)
class About:
    """What one generation was made with.

    Attributes:
        identity: hash of weights, preprocessing and layer; embeddings of another identity are not compared with these.
        model: the model's name, for people.
        load: what `midsight.load` takes to open it again; None is the embedded model.
        revision, layer, image_size: as for `midsight.load`.
        dim: numbers of an embedding.
        settings: how files became rows.
        store: where the rows are if not in the folder: an address of `open_store`.
    """

    identity: str
    model: str
    dim: int
    load: str | None = None
    revision: str | None = None
    layer: int | None = None
    image_size: int | None = None
    settings: Settings = field(default_factory=Settings)
    store: str | None = None

    @classmethod
    def of(
        cls, model: "Perception", settings: Settings, load: "About | None" = None, store: str | None = None
    ) -> "About":
        """What a model makes; `load` says how it was opened, without it its name must do."""
        how = load or cls("", "", 0, load=None if model.name == "embedded" else model.name)
        return cls(
            model.identity, model.name, model.dim, how.load, how.revision, model.layer, how.image_size, settings, store
        )  # fmt: skip


@dataclass(frozen=True)
class Manifest:
    """The current state of an index folder.

    Attributes:
        folder: the index.
        root: the folder that was indexed.
        generation: name of the folder that is asked.
    """

    folder: Path
    root: Path
    generation: str

    @property
    def current(self) -> Path:
        """The folder of the generation that is asked."""
        return self.folder / self.generation

    def save(self) -> None:
        """Makes it the one that counts, in one step.

        Raises:
            OutputError: it cannot be written; the earlier one still counts.
        """
        root = os.path.relpath(self.root.resolve(), self.folder.resolve())  # both may be moved together
        _write(self.folder / MANIFEST, {"format": FORMAT, "root": _text(root), "generation": self.generation})


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an index.

    Raises:
        InputError: there is no index, it is damaged, or a newer midsight made it.
    """
    found = _read(folder / MANIFEST, folder)
    made_by = found.get("format")
    if not isinstance(made_by, int) or made_by > FORMAT:
        raise InputError(
            f"{folder}: an index of format {made_by}, this midsight reads up to {FORMAT}. Upgrade it: "
            "pip install --upgrade midsight"
        )
    try:
        root = Path(os.path.normpath(folder.resolve() / os.fsdecode(os.fsencode(str(found["root"])))))
        return Manifest(folder, root, str(found["generation"]))
    except KeyError as error:
        raise _damaged(folder / MANIFEST, f"it has no {error}") from None


def read_about(generation: Path) -> About:
    """What a generation was made with.

    Raises:
        InputError: missing or damaged.
    """
    found = _read(generation / ABOUT, generation)
    known = {entry.name for entry in fields(About)}
    try:
        settings = Settings(**found.pop("settings"))
        return About(settings=settings, **{key: value for key, value in found.items() if key in known})
    except (KeyError, TypeError, ConfigError) as error:
        raise _damaged(generation / ABOUT, str(error)) from None


def write_about(generation: Path, about: About) -> None:
    """Begins a generation.

    Raises:
        OutputError: it cannot be written.
    """
    make_folder(generation)
    _write(generation / ABOUT, asdict(about))


def make_folder(folder: Path) -> None:
    """Makes a folder, and those above it.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: could not be made ({error.strerror or error})") from error


def generations(folder: Path) -> list[str]:
    """Names of the generations in an index, oldest first."""
    return sorted(path.name for path in folder.glob("g[0-9]*") if path.is_dir())


def next_generation(folder: Path) -> str:
    """A name that no generation has yet."""
    numbers = [int(name[1:]) for name in generations(folder) if name[1:].isdigit()]
    return f"g{max(numbers, default=0) + 1:04d}"


def remove_generation(generation: Path) -> None:
    """Removes a generation; `about.json` first, so that what a kill leaves is no generation any more."""
    (generation / ABOUT).unlink(missing_ok=True)
    shutil.rmtree(generation, ignore_errors=True)


def _read(path: Path, folder: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{folder}: no index is there. Make one: midsight index DIR") from None
    except (OSError, ValueError) as error:
        raise _damaged(path, getattr(error, "strerror", None) or str(error)) from None
    if not isinstance(found, dict):
        raise _damaged(path, "it holds no object")
    return found


def _write(path: Path, content: dict[str, Any]) -> None:
    with atomic_write(path) as file:
        file.write(json.dumps(content, indent=1).encode() + b"\n")


def _damaged(path: Path, what: str) -> InputError:
    return InputError(f"{path}: cannot be read ({what}). Delete the index's folder {path.parent} and make it anew.")


def _text(path: str) -> str:
    """JSON escapes what is not UTF-8, and gives it back."""
    return path
