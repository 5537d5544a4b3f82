"""mIoU by a confusion matrix over the whole set."""

from typing import Any

import numpy as np
import numpy.typing as npt

from midsight.errors import InputError, ShapeError


class Confusion:
    """Counts of pixels by true and predicted class, over as many pictures as are added.

    Attributes:
        matrix: int64 (classes, classes), rows are the truth.
    """

    def __init__(self, classes: int, ignore: int = 255) -> None:
        """
        Args:
            ignore: the label of pixels that do not count.

        Raises:
            InputError: fewer than one class.
        """
        if classes < 1:
            raise InputError(f"there must be at least one class, got {classes}")
        self.classes, self.ignore = classes, ignore
        self.matrix = np.zeros((classes, classes), np.int64)

    def add(self, predicted: npt.NDArray[Any], truth: npt.NDArray[Any]) -> None:
        """Counts the pixels of pictures: integer class indices of one shape.

        Raises:
            ShapeError: shapes that differ, or no integers.
            InputError: a class that there is not.
        """
        if predicted.shape != truth.shape or predicted.dtype.kind not in "iu" or truth.dtype.kind not in "iu":
            raise ShapeError(
                f"expected integer classes of one shape, got {predicted.dtype} {predicted.shape} and {truth.dtype} "
                f"{truth.shape}"
            )
        counted = truth != self.ignore
        rows, columns = truth[counted].astype(np.int64), predicted[counted].astype(np.int64)
        for name, values in (("truth", rows), ("prediction", columns)):
            if values.size and (values.min() < 0 or values.max() >= self.classes):
                raise InputError(
                    f"the {name} holds classes from {values.min()} to {values.max()}, but there are {self.classes} "
                    f"(0 to {self.classes - 1}; {self.ignore} does not count)"
                )
        pairs = np.bincount(rows * self.classes + columns, minlength=self.classes**2)
        self.matrix += pairs.reshape(self.classes, self.classes)

    def iou(self) -> npt.NDArray[np.float64]:
        """Intersection over union of each class, nan for those that are neither there nor predicted."""
        hits = np.diag(self.matrix)
        union = self.matrix.sum(axis=0) + self.matrix.sum(axis=1) - hits
        return np.where(union > 0, hits / np.maximum(union, 1), np.nan)

    def figures(self) -> dict[str, float]:
        """ "mIoU" over the classes that are there or predicted, "mAcc" over those that are there, and "aAcc".

        Raises:
            InputError: no pixel was counted.
        """
        total = int(self.matrix.sum())
        if not total:
            raise InputError("there is nothing to measure: no pixel that counts")
        hits, there = np.diag(self.matrix), self.matrix.sum(axis=1)
        return {
            "mIoU": float(np.nanmean(self.iou())),
            "mAcc": float((hits[there > 0] / there[there > 0]).mean()),
            "aAcc": float(hits.sum() / total),
        }
