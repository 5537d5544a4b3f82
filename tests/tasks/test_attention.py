"""Attention weights: with the values they give back what each block's own attention gave."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from midsight.configs import PreprocessConfig
from midsight.errors import InputError, LayerError, ShapeError
from midsight.pe import VisionTransformer
from midsight.pe.blocks import SelfAttention
from midsight.tasks.attention import all_attention, look_of, patch_token, pooling_attention, token_attention
from midsight.tasks.features import DenseEncoder
from midsight.tasks.look import InputSize, look_at
from tests.pe import tiny

TOWERS: dict[str, dict[str, Any]] = {
    "class token": dict(use_cls_token=True),
    "no class token": dict(),
    "layer scale, no positions": dict(ls_init_value=0.1, use_abs_posemb=False, pool_type="none", output_dim=None),
    "no rope": dict(use_rope2d=False, use_cls_token=True, pool_type="tok"),
    "embedded stem": dict(stem="efficientnet_lite2", patch_size=32, use_ln_pre=False, use_ln_post=False),
}


def pictures(rows: int, columns: int, patch_size: int) -> Tensor:
    shape = (2, 3, rows * patch_size, columns * patch_size)
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


def sharp(name: str) -> VisionTransformer:
    """A tower that looks at few tokens: with even weights a wrong query would go unnoticed."""
    tower = tiny.vision(**TOWERS[name])
    with torch.no_grad():
        for module in tower.modules():
            if isinstance(module, SelfAttention):
                module.in_proj_weight[: tower.width] *= 8
        if tower.config.pool_type == "attn":
            tower.attn_pool.probe *= 4
    return tower


def seen_by(modules: list[nn.Module], tower: VisionTransformer, images: Tensor) -> list[tuple[Tensor, Tensor]]:
    """What goes into parts of the tower and what comes out of them, in one plain forward pass."""
    found: list[tuple[Tensor, Tensor]] = []
    handles = [m.register_forward_hook(lambda _, inputs, output: found.append((inputs[0], output))) for m in modules]
    with torch.no_grad():
        tower(images)
    for handle in handles:
        handle.remove()
    return found


def gathered(attn: Any, weights: Tensor, x: Tensor) -> Tensor:
    """Weights (B, H, N) of one query times the values of x (B, N, W), through the output map: (B, W)."""
    width = x.shape[-1]
    values = F.linear(x, attn.in_proj_weight[2 * width :], attn.in_proj_bias[2 * width :])  # B, N, W
    per_head = values.view(*values.shape[:2], attn.heads, -1)
    return attn.out_proj(torch.einsum("bhn,bnhd->bhd", weights, per_head).flatten(1))


@pytest.mark.parametrize("grid", [(4, 4), (3, 5)], ids=["square", "not square"])
@pytest.mark.parametrize("name", TOWERS)
@torch.no_grad()
def test_weights_times_values_are_the_output_of_each_block(name: str, grid: tuple[int, int]) -> None:
    tower = sharp(name)
    images = pictures(*grid, tower.patch_size)
    first, rows = int(tower.use_cls_token), grid[0] * grid[1]
    attns = [block.attn for block in tower.transformer.resblocks]
    through = seen_by(attns, tower, images)
    layers = list(range(tower.layers))
    for token in {0, first + 3, first + rows - 1}:
        found = token_attention(tower, images, layers, token)
        for attn, weights, (x, expected) in zip(attns, found, through, strict=True):
            assert weights.shape == (2, attn.heads, first + rows)
            torch.testing.assert_close(weights.sum(-1), torch.ones(2, attn.heads))
            torch.testing.assert_close(gathered(attn, weights, x), expected[:, token], rtol=1e-5, atol=1e-5)
            assert expected.std() > 0.05
            assert (weights.amax(-1) > 2 * weights.mean(-1)).any()


@pytest.mark.parametrize("name", [name for name in TOWERS if TOWERS[name].get("pool_type", "attn") == "attn"])
@torch.no_grad()
def test_weights_times_values_are_what_the_pooling_gathers(name: str) -> None:
    tower = sharp(name)
    images = pictures(3, 5, tower.patch_size)
    ((x, pooled),) = seen_by([tower.attn_pool], tower, images)
    weights = pooling_attention(tower, images)
    pool = tower.attn_pool
    y = gathered(pool.attn, weights, x)[:, None]
    assert pooled.std() > 0.05
    torch.testing.assert_close(y + pool.mlp(pool.layernorm(y)), pooled, rtol=1e-5, atol=1e-5)
    assert (weights.amax(-1) > 2 * weights.mean(-1)).any()


@torch.no_grad()
def test_the_packed_tower_is_the_same_and_stays_packed() -> None:
    tower = tiny.vision(use_cls_token=True)
    images = pictures(3, 4, 16)
    plain = [*token_attention(tower, images, [0, -1], 5), pooling_attention(tower, images)]
    tower.pack()
    fast = tower._packed
    packed = [*token_attention(tower, images, [0, -1], 5), pooling_attention(tower, images)]
    for one, other in zip(plain, packed, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    assert tower._packed is fast is not None


def test_all_queries_at_once_are_the_mean_of_heads_of_each() -> None:
    tower = tiny.vision(use_cls_token=True)
    images = pictures(2, 3, 16)
    last, first = all_attention(tower, images, [-1, 0])
    assert last.shape == (2, 7, 7)
    for token in range(7):
        one = token_attention(tower, images, [-1, 0], token)
        torch.testing.assert_close(last[:, token], one[0].mean(1))
        torch.testing.assert_close(first[:, token], one[1].mean(1))


def test_a_place_of_a_picture_asks_its_own_patch() -> None:
    tower = tiny.vision(use_cls_token=True)
    encoder = DenseEncoder(tower, PreprocessConfig(image_size=64), [0, -1], name="tiny")
    pixels = np.random.default_rng(0).integers(0, 256, (60, 100, 3), dtype=np.uint8)
    seen = look_at(pixels, encoder, InputSize(long_side=80))
    assert seen.grid == (3, 5)
    found = look_of(encoder, seen, (85.0, 30.0))  # row 1, column 4
    assert [one.name for one in found] == ["layer 1 of 4", "layer 4 of 4"]
    token = patch_token(tower, (1, 4), 5)
    assert token == 10
    for one, expected in zip(found, token_attention(tower, seen.images, [0, -1], token), strict=True):
        torch.testing.assert_close(one.maps.flatten(1), expected[0, :, 1:])
        torch.testing.assert_close(one.class_token, expected[0, :, 0])
    whole = look_of(encoder, seen)
    assert [one.name for one in whole] == ["layer 1 of 4", "layer 4 of 4", "pooling"]
    torch.testing.assert_close(whole[1].maps.flatten(1), token_attention(tower, seen.images, [-1], 0)[0][0, :, 1:])
    torch.testing.assert_close(whole[2].maps.flatten(1), pooling_attention(tower, seen.images)[0, :, 1:])


def test_what_cannot_be() -> None:
    tower = tiny.vision(pool_type="none", output_dim=None)
    images = pictures(2, 2, 16)
    with pytest.raises(LayerError, match="4 blocks"):
        token_attention(tower, images, [4], 0)
    with pytest.raises(LayerError, match="at least one layer"):
        all_attention(tower, images, [])
    for token in (-1, 4):
        with pytest.raises(InputError, match=f"no token {token}"):
            token_attention(tower, images, [0], token)
    with pytest.raises(InputError, match="'none'"):
        pooling_attention(tower, images)
    with pytest.raises(ShapeError, match="smaller than one patch"):
        token_attention(tower, images[..., :8], [0], 0)
    encoder = DenseEncoder(tower, PreprocessConfig(image_size=64), name="tiny")
    seen = look_at(np.zeros((40, 40, 3), np.uint8), encoder, InputSize(long_side=64))
    with pytest.raises(InputError, match="tiny has neither class token nor attention pooling"):
        look_of(encoder, seen)
    with pytest.raises(InputError, match="outside the picture"):
        look_of(encoder, seen, (40.0, 0.0))
