"""Segmentation and depth of trained heads on whole pictures: mIoU and the errors of NYU."""

from collections.abc import Iterator

import numpy as np

from midsight.data.depth import DepthSet
from midsight.data.segmentation import SegmentationSet
from midsight.evaluate.metrics import Confusion, depth_errors, mean_errors
from midsight.evaluate.metrics.depth import DepthProtocol
from midsight.tasks.depth import DepthEstimator
from midsight.tasks.segmentation import Segmenter


def evaluate_segmentation(segmenter: Segmenter, pictures: SegmentationSet) -> Iterator[tuple[str, float]]:
    """mIoU over a set, at the pictures' own size, in the windows that the segmenter is set to.

    Yields:
        ("mIoU", value), ("mAcc", value), ("aAcc", value): shares between 0 and 1.

    Raises:
        MediaError, InputError: as `SegmentationSet.read`; no pixel that counts.

    Source: PE paper, B.3.3; DINOv2's reference.
    """
    confusion = Confusion(pictures.labels.classes)
    for index in range(len(pictures)):
        image, truth = pictures.read(index)
        confusion.add(segmenter(image), truth)
    yield from confusion.figures().items()


def evaluate_depth(
    estimator: DepthEstimator, pictures: DepthSet, protocol: DepthProtocol | None = None, flip: bool = False
) -> Iterator[tuple[str, float]]:
    """Errors of depth, means over the pictures of a set.

    Args:
        protocol: which pixels count; by default NYU's range and crop, for pictures of 480 x 640.
        flip: the mean of the estimates for a picture and for its mirror image counts.

    Yields:
        ("RMSE", value) and so on, see `depth_errors`.

    Raises:
        MediaError, InputError: as `DepthSet.read`; a picture without a pixel that counts.
        ShapeError: the NYU crop on pictures of another size.
    """
    errors = []
    for index in range(len(pictures)):
        image, truth = pictures.read(index)
        metres = estimator(image)
        if flip:
            mirrored = estimator(np.ascontiguousarray(image[:, ::-1]))[:, ::-1]
            metres = np.float32(0.5) * (metres + mirrored)
        errors.append(depth_errors(metres, truth, protocol))
    yield from mean_errors(errors).items()
