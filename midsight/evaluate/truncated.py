"""An encoder cut at a layer: saved as a model of its own, and measured against the whole one."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from midsight.api import Perception
from midsight.checkpoints import save_pretrained
from midsight.checkpoints.match import BLOCK
from midsight.checkpoints.renames import VISUAL
from midsight.pe import CLIP

ROUNDS = 9
_SAMPLE_SECONDS = 0.1  # a sample repeats its call until it has lasted so long
_HEAD = ("ln_post.", "attn_pool.", "proj")


def save_truncated(
    model: Perception, layer_idx: int, folder: Path, *, pair: bool = False, metadata: dict[str, Any] | None = None
) -> Path:
    """Writes the encoder up to a block, with its preprocessing at the size that the model was loaded with.

    Args:
        layer_idx: the last block that is kept, 0-based, negative from the end.
        folder: for `midsight.load`.
        pair: keep pooling, projection and text tower, for a layer that was measured with them. Else the result is a
            tower without a head, whose embedding is the mean of its patch tokens.
        metadata: saved beside the weights.

    Raises:
        LayerError: a layer that the tower does not have.
        OutputError: the folder cannot be written.
    """
    block = model.tower._layer(layer_idx)
    tower = replace(model.config, layers=block + 1)
    name = f"{model.name}-layer-{block + 1}"
    if pair and isinstance(model.model, CLIP):
        weights = {key: value for key, value in model.model.state_dict().items() if _kept(key, VISUAL + BLOCK, block)}
        text = model.model.text_config
    else:
        tower = replace(tower, pool_type="none", output_dim=None, use_ln_post=False)
        found = model.tower.state_dict()
        found = {key: value for key, value in found.items() if not key.startswith(_HEAD)}
        weights = {key: value for key, value in found.items() if _kept(key, BLOCK, block)}
        text = None
    return save_pretrained(
        folder, weights, name=name, vision=tower, text=text, preprocess=model.preprocess, metadata=metadata
    )


def _kept(key: str, prefix: str, block: int) -> bool:
    """Whether a weight is no part of a block behind the last one; `prefix` is that of the vision tower's blocks."""
    return not key.startswith(prefix) or int(key.removeprefix(prefix).partition(".")[0]) <= block


@dataclass(frozen=True)
class Speedup:
    """How many times faster: the median of paired rounds, with their 10th and 90th percentile."""

    ratio: float
    low: float
    high: float
    rounds: int

    def __str__(self) -> str:
        return f"{self.ratio:.2f}x ({self.low:.2f}-{self.high:.2f}, {self.rounds} rounds)"


@torch.inference_mode()
def speedup(whole: Perception, cut: Perception, batch_size: int = 1, rounds: int = ROUNDS) -> Speedup:
    """The cut encoder against the whole one, in turn: what disturbs the machine hits both.

    Both encode a batch of noise at their input size; in each round each is called until a tenth of a second is over.
    """
    size = whole.preprocess.image_size
    images = torch.rand(batch_size, 3, size, size, device=whole.device) * 2 - 1
    for model in (whole, cut):
        _encode(model, images)  # compilation, caches and allocation are not measured
    ratios = [_seconds(whole, images) / _seconds(cut, images) for _ in range(rounds)]
    low, middle, high = np.percentile(ratios, (10, 50, 90))
    return Speedup(float(middle), float(low), float(high), rounds)


def _encode(model: Perception, images: torch.Tensor) -> None:
    model._settle()
    model._encode(images)


def _seconds(model: Perception, images: torch.Tensor) -> float:
    """Mean of one sample; `_encode` ends on the CPU, so a GPU has been waited for."""
    start, calls = time.perf_counter(), 0
    while True:
        _encode(model, images)
        calls += 1
        elapsed = time.perf_counter() - start
        if elapsed >= _SAMPLE_SECONDS:
            return elapsed / calls
