"""Heads over feature maps; transformers' DPT is the peer of ours."""

import pytest
import torch
from torch import Tensor, nn
from transformers import DPTConfig
from transformers.models.dpt.modeling_dpt import DPTNeck

from midsight.errors import ConfigError, ShapeError
from midsight.tasks.heads import DPT, HeadConfig, build_head


def maps(count: int = 1, width: int = 16, rows: int = 4, columns: int = 6) -> list[Tensor]:
    generator = torch.Generator().manual_seed(count)
    return [torch.randn(2, width, rows, columns, generator=generator) for _ in range(count)]


def drawn(module: nn.Module) -> nn.Module:
    """Every weight drawn anew."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 1
            parameter.normal_(0, fan_in**-0.5 if parameter.ndim > 1 else 0.1, generator=generator)
    return module


@pytest.mark.parametrize("single", [False, True])
@torch.no_grad()
def test_dpt_agrees_with_transformers(single: bool) -> None:
    width, features = 16, 8
    theirs = drawn(
        DPTNeck(
            DPTConfig(
                hidden_size=width, neck_hidden_sizes=[2, 4, 8, 16], fusion_hidden_size=features, readout_type="ignore",
                reassemble_factors=[4, 2, 1, 0.5], is_hybrid=False, use_batch_norm_in_fusion_residual=False,
            )
        )
    ).eval()  # fmt: skip
    ours = DPT(HeadConfig(width, 5, "dpt", 1 if single else 4, features)).eval()
    state = {key: value for key, value in drawn(ours).state_dict().items() if key.startswith(("before", "last"))}
    for level in range(4):
        stage, fusion = theirs.reassemble_stage.layers[level], theirs.fusion_stage.layers[3 - level]
        parts = {"project": stage.projection, "resize": stage.resize, "gather": theirs.convs[level]}
        parts = {f"{name}.{level}": module for name, module in parts.items()}
        parts |= {f"fuse.{level}.out": fusion.projection}
        names = [("both", fusion.residual_layer2)] + ([("own", fusion.residual_layer1)] if level < 3 else [])
        for name, layer in names:
            parts |= {
                f"fuse.{level}.{name}.first": layer.convolution1,
                f"fuse.{level}.{name}.second": layer.convolution2,
            }
        state |= {
            f"{name}.{key}": value for name, module in parts.items() for key, value in module.state_dict().items()
        }
    ours.load_state_dict(state)
    given = maps(1 if single else 4)
    spread = given * 4 if single else given
    tokens = [torch.cat([torch.zeros(2, 1, width), x.flatten(2).transpose(1, 2)], dim=1) for x in spread]
    expected = ours.last(torch.relu(ours.before(theirs(tokens, 4, 6)[-1])))
    assert expected.shape == (2, 5, 32, 48)
    assert expected.std() > 0.05
    torch.testing.assert_close(ours(given), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("grid", [(1, 1), (3, 5), (7, 2)])
def test_dpt_takes_any_grid(grid: tuple[int, int]) -> None:
    head = build_head(HeadConfig(16, 3, "dpt"))
    assert head(maps(1, 16, *grid)).shape == (2, 3, 8 * grid[0], 8 * grid[1])


def test_dpt_grows_with_the_width() -> None:
    assert DPT(HeadConfig(1024, 1, "dpt")).before.weight.shape[0] == 256


def test_the_probe_is_a_linear_map_of_normalised_tokens() -> None:
    head = drawn(build_head(HeadConfig(16, 3, "bn_linear", 2))).train()
    first, second = maps(2)
    both = torch.cat([first, second], dim=1)
    unit = (both - both.mean((0, 2, 3), keepdim=True)) / (both.var((0, 2, 3), keepdim=True, correction=0) + 1e-5).sqrt()
    scaled = unit * head.norm.weight[:, None, None] + head.norm.bias[:, None, None]
    expected = torch.einsum("bchw,kc->bkhw", scaled, head.linear.weight[:, :, 0, 0]) + head.linear.bias[:, None, None]
    torch.testing.assert_close(head([first, second]), expected, rtol=1e-4, atol=1e-5)
    plain = drawn(build_head(HeadConfig(16, 3, "linear")))
    torch.testing.assert_close(plain([2 * first]) - plain([first]), plain([first]) - plain([0 * first]))


def test_wrong_maps_and_settings_are_told() -> None:
    head = build_head(HeadConfig(16, 3, "linear", 2))
    for wrong in (maps(1), maps(2, width=8), [*maps(1), *maps(1, rows=5)]):
        with pytest.raises(ShapeError, match=r"2 maps \(B, 16, h, w\)"):
            head(wrong)
    settings = ({"kind": "mlp"}, {"outputs": 0}, {"kind": "dpt", "inputs": 3}, {"dropout": 1.0}, {"features": -1})
    for setting in settings:
        with pytest.raises(ConfigError):
            HeadConfig(**({"width": 16, "outputs": 3} | setting))
