"""One stable name for what a model computes: its weights, its preprocessing and the layer that is read."""

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import torch
from torch import Tensor

from midsight.checkpoints.match import BLOCK
from midsight.checkpoints.renames import VISUAL, vision_tower
from midsight.configs import PreprocessConfig
from midsight.errors import LayerError
from midsight.pages import release

VERSION = 1  # of the rule below; part of what is hashed
PIECE = 64 << 20  # bytes


def identity(state_dict: Mapping[str, Tensor], preprocess: PreprocessConfig, layer: int | None = None) -> str:
    """SHA-256 of weights, preprocessing and layer, 64 hexadecimal digits.

    The weights count by published name in sorted order, each with its dtype, shape and bytes (row-major, little
    endian) as stored: no cast is made, so half-precision weights are another model than the same ones in single
    precision. The layout and the file that they came from do not count, nor does the `visual.` prefix of a tower
    alone. Tensors are hashed where they lie, by several threads, and leave no page of their file behind.

    Args:
        state_dict: published names.
        preprocess: how pixels are prepared for it.
        layer: the block whose output is used, 0-based, negative from the end; None for the embedding.

    Raises:
        LayerError: a layer that the vision tower does not have.
    """
    names = {key if any(k.startswith(VISUAL) for k in state_dict) else VISUAL + key: key for key in state_dict}
    head = {"version": VERSION, "preprocess": asdict(preprocess), "layer": _absolute(state_dict, layer)}
    digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
    with ThreadPoolExecutor() as pool:
        for name, tensor_digest in zip(
            sorted(names), pool.map(lambda name: _hash(state_dict[names[name]]), sorted(names)), strict=True
        ):
            tensor = state_dict[names[name]]
            described = [name, str(tensor.dtype).removeprefix("torch."), list(tensor.shape)]
            digest.update(json.dumps(described).encode())
            digest.update(tensor_digest)
    return digest.hexdigest()


def _absolute(state_dict: Mapping[str, Tensor], layer: int | None) -> int | None:
    if layer is None:
        return None
    vision = vision_tower(state_dict)
    layers = len({key.removeprefix(BLOCK).partition(".")[0] for key in vision if key.startswith(BLOCK)})
    if not -layers <= layer < layers:
        raise LayerError(f"layer {layer} is outside the tower, which has {layers} blocks (0 to {layers - 1})")
    return layer % layers


def _hash(tensor: Tensor) -> bytes:
    digest = hashlib.sha256()
    data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
    for start in range(0, data.nbytes, PIECE):
        digest.update(data[start : start + PIECE])
    release([tensor])
    return digest.digest()
