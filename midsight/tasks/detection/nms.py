"""Soft non-maximum suppression: overlapping boxes lose score instead of being dropped.

Source: Soft-NMS (arXiv 1704.04503); "quad" is the published evaluation's own.
"""

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Method = Literal["quad", "linear", "gaussian", "hard"]
Floats = npt.NDArray[np.float32]
SIGMA = 0.5  # of "gaussian"
MIN_SCORE = 0.001  # what falls to this is dropped


def soft_nms(
    boxes: Tensor, scores: Tensor, labels: Tensor, *, method: Method, threshold: float, quad_scale: float = 0.5
) -> tuple[Tensor, Tensor]:
    """Class-wise soft-NMS: the best box is taken, the others of its class lose score by their overlap, and so on.

    Factor of the others, by their IoU with the one taken: "quad" (1 - IoU) ** quad_scale, "linear" 1 - IoU, "hard" 0,
    each above the threshold only; "gaussian" exp(-IoU^2 / 0.5).

    Args:
        boxes: (N, 4), corners.
        scores: (N,).
        labels: (N,), int64.

    Returns:
        Indices (M,) of what is left, in the order in which it was taken, and its new scores (M,), best first.
    """
    order, kept = [], []
    arrays = boxes.float().cpu().numpy(), scores.float().cpu().numpy()  # thousands of small steps: not for a GPU
    classes = labels.cpu().numpy()
    for label in np.unique(classes):
        here = np.flatnonzero(classes == label)
        taken, decayed = _one_class(arrays[0][here], arrays[1][here], method, threshold, quad_scale)
        order.append(here[taken])
        kept.append(decayed)
    if not order:
        return torch.empty(0, dtype=torch.int64, device=boxes.device), scores.new_empty(0)
    index, value = np.concatenate(order), np.concatenate(kept)
    best = np.argsort(-value, kind="stable")
    return torch.from_numpy(index[best]).to(boxes.device), torch.from_numpy(value[best]).to(scores)


def _one_class(
    boxes: Floats, scores: Floats, method: Method, threshold: float, quad_scale: float
) -> tuple[list[int], Floats]:
    scores = scores.copy()
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    taken, values = [], []
    for _ in range(len(boxes)):
        best = int(scores.argmax())
        if not scores[best] > MIN_SCORE:
            break
        taken.append(best)
        values.append(scores[best])
        scores *= _factor(_overlap(boxes, areas, best), method, threshold, quad_scale)
        scores[best] = 0
    return taken, np.array(values, dtype=np.float32)


def _overlap(boxes: Floats, areas: Floats, one: int) -> Floats:
    """IoU (N,) of all boxes with one of them."""
    inner = np.minimum(boxes[:, 2:], boxes[one, 2:]) - np.maximum(boxes[:, :2], boxes[one, :2])
    inner = inner.clip(min=0).prod(axis=1)
    union = areas + areas[one] - inner
    return np.divide(inner, union, out=np.zeros_like(inner), where=union > 0)


def _factor(overlap: Floats, method: Method, threshold: float, quad_scale: float) -> Floats:
    if method == "gaussian":
        return np.exp(-(overlap**2) / np.float32(SIGMA))
    power = {"quad": quad_scale, "linear": 1.0, "hard": 0.0}[method]
    factor = np.zeros_like(overlap) if method == "hard" else (1 - overlap).clip(min=0) ** np.float32(power)
    return np.where(overlap > threshold, factor, np.float32(1))
