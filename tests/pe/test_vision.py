"""The vision tower by itself: layers, sizes, truncation, training switches, errors. Peers: test_parity.py."""

import copy
import pickle
from dataclasses import replace

import pytest
import torch

from midsight import pe
from midsight.configs import MODELS
from midsight.errors import ConfigError, LayerError, ShapeError, UnknownModelError
from tests.pe import tiny


@pytest.fixture(params=["class_token", "no_class_token"])
def tower(request: pytest.FixtureRequest) -> pe.VisionTransformer:
    return tiny.vision(use_cls_token=request.param == "class_token")


@torch.inference_mode()
def test_intermediates_are_the_features_of_each_layer(tower: pe.VisionTransformer) -> None:
    images = tiny.images(2, 48, 80)
    outputs = tower.forward_intermediates(images, layers=[-1, 0, 2])
    for layer, tokens in zip((-1, 0, 2), outputs, strict=True):
        assert torch.equal(tokens, tower.forward_features(images, layer_idx=layer))
    normed = tower.forward_intermediates(images, layers=[1], norm=True)[0]
    assert torch.equal(normed, tower.forward_features(images, layer_idx=1, norm=True))


@torch.inference_mode()
def test_maps_lay_tokens_on_the_grid(tower: pe.VisionTransformer) -> None:
    images = tiny.images(2, 48, 80)
    (tokens,) = tower.forward_intermediates(images, layers=[1])
    (grid,) = tower.forward_intermediates(images, layers=[1], as_maps=True)
    assert grid.shape == (2, tower.width, 3, 5)
    first = int(tower.use_cls_token)
    assert torch.equal(grid[1, :, 2, 4], tokens[1, first + 2 * 5 + 4])


@pytest.mark.parametrize("packed", [False, True])
@torch.inference_mode()
def test_no_block_past_the_last_one_asked_for_runs(packed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    tower, ran = tiny.vision(), []
    if packed:
        tower.pack()
        block = tower._packed.block
        monkeypatch.setattr(tower._packed, "block", lambda i, x, rope: (ran.append(i), block(i, x, rope))[1])
    else:
        for index, module in enumerate(tower.transformer.resblocks):
            module.register_forward_hook(lambda *_, index=index: ran.append(index))
    tower.forward_intermediates(tiny.images(1), layers=[1, 0])
    assert ran == [0, 1]
    ran.clear()
    tower.forward_features(tiny.images(1), layer_idx=-3)
    assert ran == list(range(tower.layers - 2))


@torch.inference_mode()
def test_truncate_keeps_the_layer_and_its_config(tower: pe.VisionTransformer) -> None:
    images = tiny.images(1)
    expected = tower.forward_features(images, layer_idx=-2)
    tower.truncate(-2)
    assert tower.layers == tower.config.layers == 3
    assert torch.equal(tower.forward_features(images), expected)
    assert not any(".3." in key for key in tower.state_dict())


@torch.inference_mode()
def test_sizes_that_are_no_multiple_of_the_patch_lose_the_rest(tower: pe.VisionTransformer) -> None:
    images = tiny.images(1, 50, 79)
    torch.testing.assert_close(tower(images), tower(images[:, :, :48, :64]), rtol=1e-5, atol=1e-6)


def test_gradients_survive_checkpointing() -> None:
    tower = tiny.vision().train()
    images = tiny.images(2)
    gradients = []
    for enable in (False, True):
        tower.set_grad_checkpointing(enable)
        tower.zero_grad()
        tower(images).square().sum().backward()
        gradients.append([p.grad.clone() for p in tower.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed)
    assert all(g.abs().sum() > 0 for g in gradients[0])


def test_drop_path_acts_in_training_only() -> None:
    tower = tiny.vision(drop_path=0.5)
    images = tiny.images(4)
    with torch.no_grad():
        assert torch.equal(tower(images), tower(images))
        tower.train()
        torch.manual_seed(0)
        assert not torch.allclose(tower(images), tower(images))


def test_drop_path_keeps_the_mean() -> None:
    from midsight.pe.blocks import DropPath

    torch.manual_seed(0)
    dropped = DropPath(0.25).train()(torch.ones(20_000, 1))
    assert dropped.unique().tolist() == pytest.approx([0.0, 1 / 0.75])
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("pool_type", ["tok", "avg", "none"])
@torch.inference_mode()
def test_other_poolings(pool_type: str) -> None:
    tower = tiny.vision(use_cls_token=True, pool_type=pool_type, output_dim=None)
    tokens = tower.forward_features(tiny.images(2), norm=True)
    expected = {"tok": tokens[:, 0], "avg": tokens.mean(dim=1), "none": tokens}[pool_type]
    assert torch.equal(tower(tiny.images(2)), expected)


def test_copies_and_pickles_work_packed_too() -> None:
    tower = tiny.vision().pack()
    images = tiny.images(1)
    with torch.inference_mode():
        expected = tower(images)
        for twin in (copy.deepcopy(tower), pickle.loads(pickle.dumps(tower))):
            torch.testing.assert_close(twin(images), expected, rtol=1e-5, atol=1e-6)


def test_overrides_reach_the_tower_and_a_slip_is_named() -> None:
    with torch.device("meta"):
        tower = pe.VisionTransformer.from_config("PE-Spatial-T16-512", drop_path=0.1, ls_init_value=0.1)
    assert tower.config == replace(MODELS["PE-Spatial-T16-512"].vision, drop_path=0.1, ls_init_value=0.1)
    with pytest.raises(ConfigError, match="no field drop_paths"):
        pe.VisionTransformer.from_config("PE-Spatial-T16-512", drop_paths=0.1)


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(UnknownModelError, match="PE-Core-L14-336"):
        pe.VisionTransformer.from_config("pe-core-l14-366")


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((3, 64, 64), torch.float32, r"\(B, 3, H, W\), got \(3, 64, 64\)"),
        ((1, 1, 64, 64), torch.float32, r"\(B, 3, H, W\)"),
        ((1, 3, 64, 64), torch.uint8, "floating dtype"),
        ((1, 3, 15, 64), torch.float32, "smaller than one patch"),
    ],
)
def test_wrong_images_are_refused(shape: tuple[int, ...], dtype: torch.dtype, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        tiny.vision()(torch.zeros(shape, dtype=dtype))


def test_wrong_layers_are_refused() -> None:
    tower = tiny.vision()
    for call in (
        lambda: tower.forward_features(tiny.images(1), layer_idx=4),
        lambda: tower.forward_intermediates(tiny.images(1), layers=[0, -5]),
        lambda: tower.truncate(9),
    ):
        with pytest.raises(LayerError, match="has 4 blocks"):
            call()
    with pytest.raises(LayerError, match="at least one layer"):
        tower.forward_intermediates(tiny.images(1), layers=[])


def test_compiles_and_exports_in_one_graph() -> None:
    tower, images = tiny.vision(use_cls_token=True), tiny.images(2)
    with torch.no_grad():
        expected = tower(images)
        compiled = torch.compile(tower, backend="aot_eager", fullgraph=True)
        torch.testing.assert_close(compiled(images), expected)
        exported = torch.export.export(tower, (images,)).module()
        torch.testing.assert_close(exported(images), expected)
