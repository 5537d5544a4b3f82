"""Pictures with label maps: ADE20K as published, and folders of one's own."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from midsight.data.pairs import Pair, folder_pairs
from midsight.errors import ConfigError, InputError
from midsight.files import StrPath
from midsight.images import Pixels, load_image
from midsight.images.labels import read_numbers

Labels = npt.NDArray[np.uint8]
IGNORE = 255  # in what is given out
ADE20K_CLASSES = 150


@dataclass(frozen=True)
class LabelConfig:
    """What the numbers in a label map mean."""

    classes: int
    zero_is_void: bool = False  # True: 0 does not count and class k is stored as k + 1, as in ADE20K
    void: int = 255  # another number that does not count

    def __post_init__(self) -> None:
        if not 1 <= self.classes <= IGNORE:
            raise ConfigError(f"classes must be from 1 to {IGNORE}, got {self.classes}")


@dataclass(frozen=True)
class SegmentationSet:
    """Pairs and the meaning of their labels."""

    pairs: tuple[Pair, ...]
    labels: LabelConfig

    def __len__(self) -> int:
        return len(self.pairs)

    def read(self, index: int) -> tuple[Pixels, Labels]:
        """One pair: pixels uint8 (H, W, 3) and classes uint8 (H, W), 255 where a pixel does not count.

        Raises:
            MediaError: a file that cannot be read.
            InputError: labels of another size than the picture, or outside the classes.
        """
        pair = self.pairs[index]
        image, numbers = load_image(pair.image), read_numbers(pair.target)
        if numbers.shape != image.shape[:2]:
            raise InputError(
                f"{pair.target}: {numbers.shape[1]}x{numbers.shape[0]} pixels, but {pair.image} has "
                f"{image.shape[1]}x{image.shape[0]}. Expected labels of the picture's size."
            )
        return image, self.classes_of(numbers, pair.target)

    def classes_of(self, numbers: npt.NDArray[np.uint16], path: Path) -> Labels:
        """Stored numbers as classes."""
        first = int(self.labels.zero_is_void)
        shifted = numbers.astype(np.int32) - first
        unknown = (numbers == self.labels.void) | (shifted < 0)
        outside = ~unknown & (shifted >= self.labels.classes)
        if outside.any():
            raise InputError(
                f"{path}: holds the label {int(numbers[outside].max())}, but {self.labels.classes} classes are stored "
                f"as {first} to {self.labels.classes - 1 + first} ({self.labels.void} does not count). "
                "Set the number of classes, or mend the file."
            )
        return np.where(unknown, IGNORE, shifted).astype(np.uint8)


def ade20k(root: StrPath, split: str = "training") -> SegmentationSet:
    """ADE20K's scene parsing benchmark (ADEChallengeData2016): images/SPLIT/*.jpg and annotations/SPLIT/*.png.

    150 classes, stored as 1 to 150; 0 does not count.

    Args:
        split: training or validation.

    Raises:
        InputError: folders that are not there, or files without a partner.
    """
    base = Path(root)
    pairs = folder_pairs(base / "images" / split, base / "annotations" / split)
    return SegmentationSet(tuple(pairs), LabelConfig(ADE20K_CLASSES, zero_is_void=True, void=0))


def mask_folders(images: StrPath, masks: StrPath, labels: LabelConfig) -> SegmentationSet:
    """Pictures in one folder, label maps of the same names (.png) in another.

    Raises:
        InputError: folders that are not there or empty, or files without a partner.
    """
    return SegmentationSet(tuple(folder_pairs(images, masks)), labels)


def open_segmentation(root: StrPath, split: str, labels: LabelConfig) -> SegmentationSet:
    """A set by its layout: ADE20K's (images/SPLIT, annotations/SPLIT), or images and masks, with or without SPLIT.

    Args:
        split: "training" or "validation"; folders without parts are all training.
        labels: what the numbers mean.

    Raises:
        InputError: neither layout, or files without a partner.
    """
    found = _folders(Path(root), split)
    if found is None:
        raise InputError(
            f"{root}: no {split} pictures with labels. Expected images/{split} with annotations/{split} (ADE20K), or "
            f"with masks/{split}, or images and masks."
        )
    return mask_folders(*found, labels)


def has_segmentation(root: StrPath, split: str) -> bool:
    """Whether there is a set of one of the layouts; its files may still be wrong."""
    return _folders(Path(root), split) is not None


def _folders(base: Path, split: str) -> tuple[Path, Path] | None:
    for name in ("annotations", "masks"):
        if (base / "images" / split).is_dir() and (base / name / split).is_dir():
            return base / "images" / split, base / name / split
    whole = base / "images", base / "masks"
    return whole if split == "training" and all(folder.is_dir() for folder in whole) else None
