"""Pictures with depth: NYU Depth v2 in the layout of BTS, and folders of one's own.

NYU is published in several shapes. Read here is the one that most depth training uses (BTS, and DINOv2 after it):
folders of rooms with rgb_*.jpg and sync_depth_*.png in millimetres, and a text list with a line "rgb depth focal" for
each picture. The labelled .mat file of 1,449 pictures is not read; it becomes that layout by a conversion that BTS
describes.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from midsight.data.pairs import Pair, folder_pairs
from midsight.errors import ConfigError, InputError
from midsight.files import StrPath, safe_join
from midsight.images import Pixels, load_image
from midsight.images.labels import read_numbers

Metres = npt.NDArray[np.float32]
NYU_BORDER = (45, 472, 43, 608)  # top, bottom, left, right: what the white border of the training pictures leaves


@dataclass(frozen=True)
class DepthFiles:
    """What the numbers in a depth map mean."""

    scale: float = 1000.0  # steps in a metre: millimetres
    farthest: float = 10.0  # metres; what is farther is unknown
    crop: tuple[int, int, int, int] | None = None  # top, bottom, left, right: only this part of each picture is used

    def __post_init__(self) -> None:
        if not self.scale > 0 or not self.farthest > 0:
            raise ConfigError(f"scale and farthest must be above 0, got {self}")
        if self.crop is not None:
            top, bottom, left, right = self.crop
            if not (0 <= top < bottom and 0 <= left < right):
                raise ConfigError(f"crop must be top < bottom and left < right, got {self.crop}")


@dataclass(frozen=True)
class DepthSet:
    """Pairs and the meaning of their depth."""

    pairs: tuple[Pair, ...]
    files: DepthFiles

    def __len__(self) -> int:
        return len(self.pairs)

    def read(self, index: int) -> tuple[Pixels, Metres]:
        """One pair: pixels uint8 (H, W, 3) and depth float32 (H, W) in metres, 0 where it is unknown.

        Raises:
            MediaError: a file that cannot be read.
            InputError: depth of another size than the picture, or pictures smaller than the crop.
        """
        pair = self.pairs[index]
        image, numbers = load_image(pair.image), read_numbers(pair.target)
        if numbers.shape != image.shape[:2]:
            raise InputError(
                f"{pair.target}: {numbers.shape[1]}x{numbers.shape[0]} pixels, but {pair.image} has "
                f"{image.shape[1]}x{image.shape[0]}. Expected depth of the picture's size."
            )
        metres = (numbers / self.files.scale).astype(np.float32)
        metres[metres > self.files.farthest] = 0
        return self._cropped(image, metres, pair)

    def _cropped(self, image: Pixels, metres: Metres, pair: Pair) -> tuple[Pixels, Metres]:
        if self.files.crop is None:
            return image, metres
        top, bottom, left, right = self.files.crop
        if bottom > image.shape[0] or right > image.shape[1]:
            raise InputError(
                f"{pair.image}: {image.shape[1]}x{image.shape[0]} pixels, smaller than the crop "
                f"{self.files.crop} (top, bottom, left, right). Set the crop, or none."
            )
        part = slice(top, bottom), slice(left, right)
        return np.ascontiguousarray(image[part]), np.ascontiguousarray(metres[part])


def nyu(root: StrPath, listing: StrPath, files: DepthFiles | None = None) -> DepthSet:
    """NYU Depth v2 by a list of BTS: "rgb depth focal" on each line, relative to `root`, with or without "/" ahead.

    Lines whose depth is "None" have no truth and are left out.

    Args:
        listing: such as nyu_train.txt or nyu_test.txt, itself relative to `root` or not.
        files: for training, `DepthFiles(crop=NYU_BORDER)` leaves out the white border.

    Raises:
        InputError: the list cannot be read, a line is none, or a file that it names is not there.
    """
    base = Path(root)
    path = Path(listing) if Path(listing).is_absolute() else base / listing
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); expected lines of 'rgb depth focal'") from error
    pairs = []
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words or (len(words) > 1 and words[1] == "None"):
            continue
        if len(words) not in (2, 3):
            raise InputError(f"{path}: line {number} is {line!r:.80}; expected 'rgb depth focal'")
        image, depth = (safe_join(base, word.lstrip("/")) for word in words[:2])
        for file in (image, depth):
            if not file.is_file():
                raise InputError(f"{path}: line {number} names {file}, which is not there")
        pairs.append(Pair(words[0].lstrip("/"), image, depth))
    if not pairs:
        raise InputError(f"{path}: names no picture with depth; expected lines of 'rgb depth focal'")
    return DepthSet(tuple(pairs), files or DepthFiles())


def depth_folders(images: StrPath, depths: StrPath, files: DepthFiles | None = None) -> DepthSet:
    """Pictures in one folder, 16-bit depth maps of the same names (.png) in another.

    Raises:
        InputError: folders that are not there or empty, or files without a partner.
    """
    return DepthSet(tuple(folder_pairs(images, depths)), files or DepthFiles())


LISTS = {"training": "nyu_train.txt", "validation": "nyu_test.txt"}


def open_depth(root: StrPath, split: str, files: DepthFiles) -> DepthSet:
    """A set by its layout: NYU's list for the split, or images and depth, with or without SPLIT.

    Args:
        split: "training" or "validation"; folders without parts are all training.

    Raises:
        InputError: neither layout, or files without a partner.
    """
    base = Path(root)
    if (base / LISTS[split]).is_file():
        return nyu(base, LISTS[split], files)
    found = _folders(base, split)
    if found is None:
        raise InputError(
            f"{base}: no {split} pictures with depth. Expected {LISTS[split]} with lines of 'rgb depth focal' (NYU), "
            f"or images/{split} and depth/{split}, or images and depth."
        )
    return depth_folders(*found, files)


def has_depth(root: StrPath, split: str) -> bool:
    """Whether there is a set of one of the layouts; its files may still be wrong."""
    return (Path(root) / LISTS[split]).is_file() or _folders(Path(root), split) is not None


def _folders(base: Path, split: str) -> tuple[Path, Path] | None:
    if (base / "images" / split).is_dir() and (base / "depth" / split).is_dir():
        return base / "images" / split, base / "depth" / split
    whole = base / "images", base / "depth"
    return whole if split == "training" and all(folder.is_dir() for folder in whole) else None
