"""What is exported of a model: one module, one input and one output for each tower."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim

from midsight.api import Perception
from midsight.errors import InputError
from midsight.export.card import Card, Port
from midsight.export.config import MAX_PATCHES
from midsight.pe import CLIP, TextTransformer, VisionTransformer

BATCH = Dim("batch", min=1)


@dataclass(frozen=True)
class Part:
    """One tower on its way into a file, maybe with a head.

    Attributes:
        card: what the file will say about itself.
        module: what is traced: `example` and its like to the card's outputs.
        example: an input to trace with.
        free: the axes of the input that stay free.
        eager: what the file is held against; None is the module itself.
    """

    card: Card
    module: nn.Module
    example: Tensor
    free: dict[int, Any]
    eager: Callable[[Tensor], Sequence[Tensor]] | None = None

    @torch.inference_mode()
    def expected(self, x: Tensor) -> dict[str, Tensor]:
        """What the file should give, by name."""
        found = self.module(x) if self.eager is None else self.eager(x)
        values = [found] if isinstance(found, Tensor) else found
        return {port.name: value for port, value in zip(self.card.outputs, values, strict=True)}


class ImageEmbedding(nn.Module):
    """Images (B, 3, H, W) to embeddings (B, D)."""

    def __init__(self, tower: VisionTransformer) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, images: Tensor) -> Tensor:
        return F.normalize(self.tower(images), dim=-1)


class TextEmbedding(nn.Module):
    """Token ids (B, L) to embeddings (B, D)."""

    def __init__(self, tower: TextTransformer) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, tokens: Tensor) -> Tensor:
        return F.normalize(self.tower(tokens), dim=-1)


class Features(nn.Module):
    """Images (B, 3, H, W) to the last block's tokens (B, N, W) or feature maps (B, W, rows, columns)."""

    def __init__(self, tower: VisionTransformer, as_maps: bool, norm: bool) -> None:
        super().__init__()
        self.tower, self.as_maps, self.norm = tower, as_maps, norm

    def forward(self, images: Tensor) -> Tensor:
        return self.tower.forward_intermediates(images, [-1], self.as_maps, self.norm)[0]


def parts_of(model: Perception, *, as_maps: bool = False, dynamic: bool = False) -> list[Part]:
    """The image tower and, where there is one and no layer was asked for, the text tower.

    A tower that pools gives embeddings; with `layer`, or without a pooling, the block's tokens or maps.

    Raises:
        InputError: maps of a tower that pools.
    """
    pools = model.layer is None and model.config.pool_type != "none"
    if pools and as_maps:
        raise InputError(f"{model.name} pools its features; name a block with --layer (layer=) to export its maps")
    gives: Literal["embedding", "tokens", "maps"] = "embedding" if pools else "maps" if as_maps else "tokens"
    image = _image_part(model, gives, dynamic)
    return [image, _text_part(model, model.model, dynamic)] if isinstance(model.model, CLIP) else [image]


def _image_part(model: Perception, gives: Literal["embedding", "tokens", "maps"], dynamic: bool) -> Part:
    tower, side, patch = model.tower, model.preprocess.image_size, model.config.patch_size
    module = ImageEmbedding(tower) if gives == "embedding" else Features(tower, gives == "maps", model.layer is None)
    rows = side // patch
    shape = (2, 3, 3 * patch, 4 * patch) if dynamic else (2, 3, side, side)  # free sizes must differ in the trace
    sizes: tuple[int | str, ...] = ("height", "width") if dynamic else (side, side)
    tokens: int | str = "tokens" if dynamic else rows**2 + int(tower.use_cls_token)
    grid: tuple[int | str, ...] = ("rows", "columns") if dynamic else (rows, rows)
    out: dict[str, tuple[int | str, ...]] = {
        "embedding": (model.dim,),
        "tokens": (tokens, tower.width),
        "maps": (tower.width, *grid),
    }
    card = Card(
        model=model.name,
        identity=model.identity,
        tower="image",
        gives=gives,
        layer=model.layer,
        patch_size=patch,
        class_token=tower.use_cls_token,
        preprocess=model.preprocess,
        context_length=None,
        logit_scale=_logit_scale(model),
        input=Port("images", "float32", ("batch", 3, *sizes)),
        output=Port(gives, "float32", ("batch", *out[gives])),
    )
    return Part(card, module.eval(), torch.zeros(shape), {0: BATCH} | (_free_sides(model) if dynamic else {}))


def _free_sides(model: Perception) -> dict[int, Any]:
    """Height and width. At least two patches: torch.export takes a size of one for a constant."""
    patch = model.config.patch_size
    if model.config.stem == "patch":
        return {2 + i: Dim(side, min=2 * patch, max=MAX_PATCHES * patch) for i, side in enumerate(("height", "width"))}
    # a trunk cuts off what is beyond the last whole patch by a slice, which a trace can only follow for whole patches
    return whole_patches(patch)


def whole_patches(patch: int) -> dict[int, Any]:
    """Height and width that are multiples of the patch size, of two patches or more."""
    return {2 + i: patch * Dim(side, min=2, max=MAX_PATCHES) for i, side in enumerate(("rows", "columns"))}


def _text_part(model: Perception, pair: CLIP, dynamic: bool) -> Part:
    config, length = pair.text_config, pair.context_length
    free_length = dynamic and length > 2
    card = Card(
        model=model.name,
        identity=model.identity,
        tower="text",
        gives="embedding",
        layer=None,
        patch_size=model.config.patch_size,
        class_token=model.config.use_cls_token,
        preprocess=None,
        context_length=length,
        logit_scale=_logit_scale(model),
        input=Port("tokens", "int64", ("batch", "length" if free_length else length)),
        output=Port("embedding", "float32", ("batch", config.output_dim)),
    )
    free = {0: BATCH} | ({1: Dim("length", min=2, max=length)} if free_length else {})
    return Part(card, TextEmbedding(_text_tower(pair)).eval(), torch.ones((2, length), dtype=torch.int64), free)


def _text_tower(pair: CLIP) -> TextTransformer:
    """The text tower of a pair by itself, with the same weights in the same memory."""
    with torch.device("meta"):
        tower = TextTransformer(pair.text_config)
    weights = pair.state_dict()
    tower.load_state_dict({key: weights[key] for key in tower.state_dict()}, assign=True)
    return tower.requires_grad_(False)


def _logit_scale(model: Perception) -> float | None:
    return float(model.model.logit_scale.detach().exp()) if isinstance(model.model, CLIP) else None
