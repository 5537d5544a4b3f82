"""Where tokens look: the attention weights of a vision tower, formed outright for one query.

The fast path never holds them. Here they come from each block's own input, with the weights, the scale and RoPE that
the tower itself uses.
Letters: B batch, N tokens, W width, H heads, D head dim.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from midsight.errors import InputError, LayerError
from midsight.pe import VisionTransformer
from midsight.pe.blocks import AttentionPooling, ResidualAttentionBlock, SelfAttention
from midsight.pe.rope import Rope
from midsight.pe.vision import check_images
from midsight.tasks.features import DenseEncoder
from midsight.tasks.look import Look, Point


@dataclass(frozen=True)
class Attention:
    """Where one query looks in a picture.

    Attributes:
        name: of the layer, or "pooling".
        maps: float32 (heads, rows, columns), weights of the patches.
        class_token: float32 (heads,), what the class token gets of them; 0 where there is none.
    """

    name: str
    maps: Tensor
    class_token: Tensor


@torch.no_grad()
def look_of(encoder: DenseEncoder, seen: Look, at: Point | None = None) -> list[Attention]:
    """The attention of one place of a picture in the encoder's layers.

    Args:
        at: (x, y) in pixels of the picture. None asks the class token, where there is one, and the pooling's probe,
            where there is one; the probe reads the last layer.

    Raises:
        InputError: the place lies outside the picture; or None, and the tower has neither.
    """
    tower, images = encoder.tower, seen.images.to(encoder.device)
    encoder._before()
    pools = at is None and tower.config.pool_type == "attn"
    if at is None and not tower.use_cls_token and not pools:
        raise InputError(f"{encoder.name} has neither class token nor attention pooling; name a place that looks")
    found: list[tuple[str, Tensor]] = []
    if at is not None or tower.use_cls_token:
        token = 0 if at is None else patch_token(tower, seen.cell(at), seen.grid[1])
        names = [f"layer {layer + 1} of {tower.layers}" for layer in encoder.layers]
        found += zip(names, token_attention(tower, images, encoder.layers, token), strict=True)
    if pools:
        found.append(("pooling", pooling_attention(tower, images)))
    return [_split(tower, name, weights[0].float().cpu(), seen.grid) for name, weights in found]


@torch.no_grad()
def token_attention(tower: VisionTransformer, images: Tensor, layers: Sequence[int], token: int) -> list[Tensor]:
    """How much one token takes from each token, in some blocks.

    Args:
        images: float (B, 3, H, W), normalised, of any size.
        layers: block indices, 0-based, negative from the end, in any order.
        token: index of the query: the class token first, if any, then patches in raster order; `patch_token` counts.

    Returns:
        (B, heads, N) for each layer; each row adds up to 1.

    Raises:
        ShapeError: images of another shape, or smaller than one patch.
        LayerError: an index outside the tower, or no index.
        InputError: no such token.
    """
    found = {layer: _one(block, x, rope, token) for layer, block, x, rope in _inputs(tower, images, layers)}
    return [found[tower._layer(layer)] for layer in layers]


@torch.no_grad()
def all_attention(tower: VisionTransformer, images: Tensor, layers: Sequence[int]) -> list[Tensor]:
    """How much each token takes from each token, the mean of the heads: (B, N, N) for each layer, queries in rows.

    Arguments and errors are those of `token_attention`. One head's weights are held at a time.
    """
    found = {}
    for layer, block, x, rope in _inputs(tower, images, layers):
        q, k = queries_and_keys(block.attn, block.ln_1(x), rope)
        found[layer] = sum(weights(q[:, head], k[:, head]) for head in range(q.shape[1])) / q.shape[1]
    return [found[tower._layer(layer)] for layer in layers]  # type: ignore[misc]


@torch.no_grad()
def pooling_attention(tower: VisionTransformer, images: Tensor) -> Tensor:
    """How much the pooling's probe takes from each token behind the last block: (B, heads, N), rows adding up to 1.

    Args:
        images: float (B, 3, H, W), normalised, of any size.

    Raises:
        InputError: the tower has no attention pooling.
    """
    if tower.config.pool_type != "attn":
        raise InputError(f"this tower pools by {tower.config.pool_type!r} and has no probe; ask for a token instead")
    x = tower.forward_features(images, norm=True)
    return pooling_weights(tower.attn_pool, x)


def patch_token(tower: VisionTransformer, cell: tuple[int, int], columns: int) -> int:
    """The index among all tokens of the patch at (row, column) of a grid of so many columns."""
    return int(tower.use_cls_token) + cell[0] * columns + cell[1]


def queries_and_keys(attn: SelfAttention, x: Tensor, rope: Rope | None) -> tuple[Tensor, Tensor]:
    """What a block's attention compares: q and k (B, H, N, D), turned by RoPE, of its normed input (B, N, W)."""
    width = x.shape[-1]
    qk = F.linear(x, attn.in_proj_weight[: 2 * width], attn.in_proj_bias[: 2 * width])  # B, N, 2W
    q, k = qk.unflatten(-1, (2, attn.heads, -1)).permute(2, 0, 3, 1, 4)  # each B, H, N, D
    return (q, k) if rope is None else (rope.rotate(q), rope.rotate(k))


def pooling_weights(pool: AttentionPooling, x: Tensor) -> Tensor:
    """The probe's weights (B, H, N) over normed tokens (B, N, W)."""
    attn, width = pool.attn, x.shape[-1]
    w_q, w_k = attn.in_proj_weight[: 2 * width].split(width)
    b_q, b_k = attn.in_proj_bias[: 2 * width].split(width)
    q = F.linear(pool.probe.to(x.dtype), w_q, b_q).unflatten(-1, (attn.heads, -1)).transpose(1, 2)  # 1, H, 1, D
    k = F.linear(x, w_k, b_k).unflatten(-1, (attn.heads, -1)).transpose(1, 2)  # B, H, N, D
    return weights(q, k).squeeze(2)


def weights(q: Tensor, k: Tensor) -> Tensor:
    """softmax(q kT / sqrt(D)): queries (..., Q, D) and keys (..., N, D) to (..., Q, N)."""
    return (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(dim=-1)


def _split(tower: VisionTransformer, name: str, found: Tensor, grid: tuple[int, int]) -> Attention:
    """Weights (heads, N) as maps, with the class token's share beside them."""
    first = int(tower.use_cls_token)
    return Attention(name, found[:, first:].unflatten(1, grid), found[:, :first].sum(dim=1))


def _one(block: ResidualAttentionBlock, x: Tensor, rope: Rope | None, token: int) -> Tensor:
    if not 0 <= token < x.shape[1]:
        raise InputError(f"there is no token {token}: the picture has {x.shape[1]}, counted from 0")
    q, k = queries_and_keys(block.attn, block.ln_1(x), rope)
    return weights(q[:, :, token : token + 1], k).squeeze(2)


def _inputs(
    tower: VisionTransformer, images: Tensor, layers: Sequence[int]
) -> Iterator[tuple[int, ResidualAttentionBlock, Tensor, Rope | None]]:
    """Each wanted block with its input (B, N, W): what the tower hands it, packed or not."""
    check_images(images, tower.patch_size)
    if not layers:
        raise LayerError(f"name at least one layer, 0 to {tower.layers - 1} or negative from the end")
    wanted = sorted({tower._layer(layer) for layer in layers})
    rows, columns = images.shape[-2] // tower.patch_size, images.shape[-1] // tower.patch_size
    rope = tower._rope_tables.get(rows, columns, images.device) if tower.config.use_rope2d else None
    first = [tower._embed(images, None)] if wanted[0] == 0 else []
    before = [layer - 1 for layer in wanted if layer > 0]
    inputs = first + (tower.forward_intermediates(images, before) if before else [])
    for layer, x in zip(wanted, inputs, strict=True):
        yield layer, tower.transformer.resblocks[layer], x, rope  # type: ignore[misc]
