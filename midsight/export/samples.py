"""Real inputs to compare with: the demo's pictures and some texts."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from midsight.configs import PreprocessConfig
from midsight.export.card import Card
from midsight.export.towers import Part
from midsight.images import load_image
from midsight.transforms import get_text_tokenizer
from midsight.transforms.image import from_config, resize_pixels

PICTURES = Path(__file__).parent.parent / "assets" / "demo"
TEXTS = (
    "a domestic cat", "an espresso in a cup, seen from above", "a rocket", "Ein Motorrad in einer Werkstatt", "寺",
    "a Chinese temple above a lake", "",
)  # fmt: skip


def inputs_for(card: Card, batches: tuple[int, ...]) -> list[Tensor]:
    """Batches at the size of the model and, where sizes are free, at another one that is no square.

    Returns:
        float32 (B, 3, H, W) or int64 (B, L); the first is the smallest batch at the size of the model.
    """
    if card.preprocess is not None and card.head is not None and card.head.longest is not None:
        return [_padded(card.preprocess, card.head.longest, batch) for batch in batches]
    if card.preprocess is not None:
        patch, rows = card.patch_size, card.preprocess.image_size // card.patch_size
        sizes = [(rows * patch, rows * patch)]
        if "height" in card.input.shape:
            sizes.append((max(2, rows * 3 // 4) * patch, (rows * 5 // 4 + 1) * patch))
        return [_pictures(card.preprocess, size, batch) for size in sizes for batch in batches]
    length = card.context_length or 2
    lengths = [length, max(2, length // 2)] if "length" in card.input.shape else [length]
    return [_texts(at, batch) for at in lengths for batch in batches]


def _pictures(preprocess: PreprocessConfig, size: tuple[int, int], batch: int) -> Tensor:
    """The pictures squashed to a size, then mirrored, then darker from round to round."""
    transform = from_config(replace(preprocess, resize="squash"))
    images = []
    for path in sorted(PICTURES.glob("*.jpg")):
        pixels = resize_pixels(np.asarray(load_image(path)), *size, preprocess.interpolation)
        images += [transform.normalize(pixels), transform.normalize(pixels.flip(-1))]
    return torch.stack([images[i % len(images)] for i in range(batch)])


def most_first(part: Part, inputs: list[Tensor]) -> list[Tensor]:
    """The same, turned so that the picture in which most is found comes first: a batch of one then shows something."""
    used = part.expected(max(inputs, key=len))["labels"] >= 0  # B, D
    best = int(used.sum(dim=1).argmax())
    turned = max(inputs, key=len).roll(-best, dims=0)
    return [turned[: len(x)] for x in inputs]


def _padded(preprocess: PreprocessConfig, longest: int, batch: int) -> Tensor:
    """The pictures in their own shape in the top left corner of a square, then mirrored."""
    transform, side = from_config(preprocess), preprocess.image_size
    images = []
    for path in sorted(PICTURES.glob("*.jpg")):
        picture = np.asarray(load_image(path))
        scale = longest / max(picture.shape[:2])
        height, width = (max(1, round(scale * length)) for length in picture.shape[:2])
        pixels = resize_pixels(picture, height, width, preprocess.interpolation)
        for shown in (pixels, pixels.flip(-1)):
            images.append(F.pad(transform.normalize(shown), (0, side - width, 0, side - height)))
    return torch.stack([images[i % len(images)] for i in range(batch)])


def _texts(length: int, batch: int) -> Tensor:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that texts are cut is meant
        return get_text_tokenizer(length)([TEXTS[i % len(TEXTS)] for i in range(batch)])
