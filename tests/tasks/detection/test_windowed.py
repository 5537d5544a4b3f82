"""The windowed backbone and the conversion of weights, against their definitions written out."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from midsight import pe
from midsight.configs import PEConfig
from midsight.errors import CheckpointError, ConfigError, ShapeError
from midsight.tasks.detection import WindowedBackbone, convert_checkpoint
from tests import peers

CONFIG = PEConfig(
    patch_size=8, width=32, layers=3, heads=2, mlp_ratio=2.0, output_dim=None, ls_init_value=0.3, image_size=24,
    pool_type="none", use_ln_post=False,
)  # fmt: skip


def backbone(config: PEConfig = CONFIG, side: int = 56, seed: int = 0, **options: object) -> WindowedBackbone:
    settings: dict[str, object] = {"window_size": 3, "global_blocks": [1], **options}
    model: WindowedBackbone = peers.randomize(WindowedBackbone(config, side, **settings), seed)  # type: ignore[arg-type]
    return model.eval()


def images(side: int = 56, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(1))


def turned(x: Tensor, at: tuple[float, float]) -> Tensor:
    """One head's channels (D) at column and row `at`."""
    out, half = x.clone(), len(x) // 2
    for start, position in ((0, at[0]), (half, at[1])):
        for i in range(0, half, 2):
            angle = torch.tensor(position * 10_000.0 ** (-i / half))
            a, b = x[start + i], x[start + i + 1]
            out[start + i], out[start + i + 1] = a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()
    return out


def attention_by_hand(block: nn.Module, square: Tensor, step: float) -> Tensor:
    """Attention of one window (n, n, C) of one image, head by head; neighbours are `step` positions apart."""
    attn, n = block.attn, square.shape[0]
    tokens = square.reshape(n * n, -1)
    q, k, v = (tokens @ attn.in_proj_weight.T + attn.in_proj_bias).chunk(3, dim=1)
    places = [(x * step, y * step) for y in range(n) for x in range(n)]
    heads = []
    for head in range(attn.heads):
        part = slice(head * q.shape[1] // attn.heads, (head + 1) * q.shape[1] // attn.heads)
        qh = torch.stack([turned(row, at) for row, at in zip(q[:, part], places, strict=True)])
        kh = torch.stack([turned(row, at) for row, at in zip(k[:, part], places, strict=True)])
        heads.append((qh @ kh.T / qh.shape[1] ** 0.5).softmax(dim=1) @ v[:, part])
    return attn.out_proj(torch.cat(heads, dim=1)).reshape(n, n, -1)


def reference(model: WindowedBackbone, image: Tensor, window: int, rope_grid: float) -> Tensor:
    """The whole tower on one image (3, S, S), window by window, with the table repeated by hand: (C, H, W)."""
    config = model.config
    x = model.conv1(image[None])[0].permute(1, 2, 0)  # H, W, C
    grid, native = x.shape[0], config.grid
    first = int(config.use_cls_token)
    for row in range(grid):
        for column in range(grid):
            x[row, column] += model.positional_embedding[first + (row % native) * native + column % native]
    x = model.ln_pre(x)
    for index, block in enumerate(model.transformer.resblocks):
        side = grid if index in model.global_blocks else window
        normed, attended = block.ln_1(x), torch.empty_like(x)
        for top in range(0, grid, side):
            for left in range(0, grid, side):
                piece = normed[top : top + side, left : left + side]
                square = x.new_zeros(side, side, x.shape[2])
                square[: piece.shape[0], : piece.shape[1]] = piece
                out = attention_by_hand(block, square, rope_grid / side)
                attended[top : top + side, left : left + side] = out[: piece.shape[0], : piece.shape[1]]
        x = x + block.ls_1(attended)
        x = x + block.ls_2(block.mlp(block.ln_2(x)))
    return x.permute(2, 0, 1)


@pytest.mark.parametrize(
    ("config", "side", "rope_grid"),
    [
        (CONFIG, 56, None),  # 7 x 7 tokens: windows of 3 need padding, the table of 3 x 3 is repeated and cut
        (CONFIG, 48, 2.0),
        (replace(CONFIG, use_cls_token=True, ls_init_value=None), 24, None),
    ],
)
@torch.no_grad()
def test_the_tower_is_its_definition(config: PEConfig, side: int, rope_grid: float | None) -> None:
    model = backbone(config, side, rope_grid=rope_grid)
    inputs = images(side)
    features = model(inputs)
    expected = torch.stack([reference(model, image, 3, rope_grid or config.grid) for image in inputs])
    assert features.shape == (2, 32, side // 8, side // 8)
    assert expected.std() > 0.1
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_all_blocks_global_on_the_native_grid_is_the_plain_tower() -> None:
    """Relative positions are all that attention sees, so the shift by one is without effect."""
    plain = peers.randomize(pe.VisionTransformer(CONFIG)).eval()
    model = WindowedBackbone(CONFIG, 24, 3, global_blocks=range(CONFIG.layers))
    model.load_state_dict(plain.state_dict())
    inputs = images(24)
    expected = plain.forward_intermediates(inputs, [-1], as_maps=True)[0]
    torch.testing.assert_close(model.eval()(inputs), expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_window_does_not_see_beyond_itself() -> None:
    model = backbone(replace(CONFIG, layers=1), 48, global_blocks=[])
    inputs = images(48)
    changed = inputs.clone()
    changed[:, :, :24, 24:] += 1  # the upper right window
    difference = (model(inputs) - model(changed)).abs().amax(dim=(0, 1))
    assert difference[:3, 3:].min() > 1e-3
    assert difference[3:].max() == difference[:, :3].max() == 0


@torch.no_grad()
def test_towers_without_positions_and_with_a_resized_table() -> None:
    bare = replace(CONFIG, use_abs_posemb=False, use_rope2d=False, use_ln_pre=False)
    assert "positional_embedding" not in backbone(bare).state_dict()
    assert backbone(bare)(images()).isfinite().all()
    model = backbone(tile_positions=False)
    assert not torch.allclose(model(images()), backbone()(images()), atol=1e-2)
    model.positional_embedding.copy_(torch.ones(9, 1) * torch.arange(32))  # a flat table stays flat
    torch.testing.assert_close(model._positions(), torch.arange(32.0).expand(7, 7, 32))


def test_gradients_reach_every_parameter_and_recomputing_changes_none() -> None:
    found = []
    for again in (False, True):
        model = backbone().train()
        model.set_grad_checkpointing(again)
        model(images()).square().mean().backward()
        found.append({name: p.grad for name, p in model.named_parameters()})
    for name, grad in found[0].items():
        assert grad is not None
        assert grad.abs().max() > 0, name
        torch.testing.assert_close(grad, found[1][name], msg=name)


def test_bad_sizes_are_told() -> None:
    with pytest.raises(ConfigError, match="image_size 50 is not a multiple of patch_size 8"):
        backbone(side=50)
    with pytest.raises(ConfigError, match="window_size"):
        backbone(window_size=0)
    with pytest.raises(ConfigError, match=r"global_blocks names \[3\]"):
        backbone(global_blocks=[1, 3])
    with pytest.raises(ShapeError, match="takes 56 x 56 pixels, got 56 x 48"):
        backbone()(torch.zeros(1, 3, 56, 48))
    with pytest.raises(ShapeError, match="floating dtype"):
        backbone()(torch.zeros(1, 3, 56, 56, dtype=torch.uint8))


def cubic(t: float) -> float:
    """The cubic convolution kernel with a = -0.75."""
    t = abs(t)
    if t <= 1:
        return 1.25 * t**3 - 2.25 * t**2 + 1
    return -0.75 * (t**3 - 5 * t**2 + 8 * t - 4) if t < 2 else 0.0


def resized_by_hand(table: Tensor, side: int) -> Tensor:
    """(n, n) to (side, side), bicubic, centres of the outer cells aligned by their edges, edges repeated."""
    n = len(table)
    weights = torch.zeros(side, n, dtype=torch.float64)
    for out in range(side):
        at = (out + 0.5) * n / side - 0.5
        for step in range(-1, 3):
            cell = int(torch.tensor(at).floor()) + step
            weights[out, min(max(cell, 0), n - 1)] += cubic(at - cell)
    return weights @ table.double() @ weights.T


@pytest.mark.parametrize("class_token", [False, True])
def test_weights_are_resized_bicubically(class_token: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = {
        "conv1.weight": torch.randn(4, 3, 14, 14, generator=generator),
        "positional_embedding": torch.randn(25 + class_token, 4, generator=generator),
        "ln_pre.weight": torch.randn(4, generator=generator),
    }
    found = convert_checkpoint(weights, patch_size=16, grid=7, class_token=class_token)
    assert found["ln_pre.weight"] is weights["ln_pre.weight"]
    kernel = resized_by_hand(weights["conv1.weight"][2, 1], 16)
    torch.testing.assert_close(found["conv1.weight"][2, 1].double(), kernel, rtol=1e-4, atol=1e-5)
    table = found["positional_embedding"]
    assert torch.equal(table[:class_token], weights["positional_embedding"][:class_token])
    native = weights["positional_embedding"][class_token:, 3].reshape(5, 5)
    torch.testing.assert_close(
        table[class_token:, 3].reshape(7, 7).double(), resized_by_hand(native, 7), rtol=1e-4, atol=1e-5
    )


def test_nothing_to_resize_is_left_alone() -> None:
    weights = {"conv1.weight": torch.rand(4, 3, 16, 16).half(), "positional_embedding": torch.rand(9, 4)}
    found = convert_checkpoint(weights)
    assert all(found[name] is value for name, value in weights.items())
    assert convert_checkpoint(weights, patch_size=8)["conv1.weight"].dtype is torch.float16


def test_bad_weights_are_told() -> None:
    with pytest.raises(CheckpointError, match="conv1.weight is missing"):
        convert_checkpoint({"visual.conv1.weight": torch.zeros(4, 3, 14, 14)})
    with pytest.raises(CheckpointError, match="has 10 rows for patches"):
        convert_checkpoint(
            {"conv1.weight": torch.zeros(4, 3, 14, 14), "positional_embedding": torch.zeros(10, 4)}, grid=2
        )
    with pytest.raises(ConfigError, match="at least 1"):
        convert_checkpoint({"conv1.weight": torch.zeros(4, 3, 14, 14)}, patch_size=0)
