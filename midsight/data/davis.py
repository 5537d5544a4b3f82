"""DAVIS 2017 as it is published: JPEGImages/480p/NAME, Annotations/480p/NAME, ImageSets/2017/val.txt."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from midsight.errors import InputError, MediaError
from midsight.files import StrPath
from midsight.images.labels import Numbers, read_numbers


@dataclass(frozen=True)
class DavisSequence:
    """One video: frames and annotations in order, equally many."""

    name: str
    frames: tuple[Path, ...]  # JPEG
    annotations: tuple[Path, ...]  # indexed PNG; 0 background, 255 void

    def truth(self) -> Numbers:
        """All annotations, uint16 (T, H, W).

        Raises:
            MediaError: one cannot be read, or is of another size than the first.
        """
        maps = [read_numbers(path) for path in self.annotations]
        for path, found in zip(self.annotations, maps, strict=True):
            if found.shape != maps[0].shape:
                raise MediaError(
                    f"{path}: {found.shape[1]}x{found.shape[0]} pixels, but {self.annotations[0].name} has "
                    f"{maps[0].shape[1]}x{maps[0].shape[0]}. Expected annotations of one size."
                )
        return np.stack(maps)


def read_davis(
    root: StrPath, split: str = "val", *, resolution: str = "480p", year: str = "2017"
) -> list[DavisSequence]:
    """The sequences of a split, in the order of its list; no picture is opened.

    Args:
        root: the folder that holds JPEGImages.
        split: train, val or another list in ImageSets/2017.
        resolution: 480p or Full-Resolution.
        year: of the lists.

    Raises:
        InputError: a folder, list or sequence that is not there, or frames without annotations of the same names.
    """
    base = Path(root)
    listing = base / "ImageSets" / year / f"{split}.txt"
    images, annotations = base / "JPEGImages" / resolution, base / "Annotations" / resolution
    for path in (listing, images, annotations):
        if not path.exists():
            raise InputError(f"{path}: not there. Expected {base} in the layout of DAVIS {year}.")
    names = listing.read_text(encoding="utf-8-sig").split()
    if not names:
        raise InputError(f"{listing}: names no sequence; expected one a line")
    return [_sequence(name, images / name, annotations / name) for name in names]


def _sequence(name: str, images: Path, annotations: Path) -> DavisSequence:
    frames = sorted(images.glob("*.jpg"))
    maps = sorted(annotations.glob("*.png"))
    for folder, found, what in ((images, frames, "frames (*.jpg)"), (annotations, maps, "annotations (*.png)")):
        if not found:
            raise InputError(f"{folder}: no {what}; expected those of the sequence {name!r}")
    lonely = {path.stem for path in frames} ^ {path.stem for path in maps}
    if lonely:
        raise InputError(
            f"{name}: {len(frames)} frames and {len(maps)} annotations, which do not belong together from "
            f"{min(lonely)!r} on. Expected a PNG of the same name in {annotations} for each JPEG in {images}."
        )
    return DavisSequence(name, tuple(frames), tuple(maps))
