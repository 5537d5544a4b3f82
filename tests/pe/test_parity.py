"""Live comparison with timm and open_clip on random weights, converted both ways.

timm rescales RoPE's positions off the native grid and the published code does not: a peer for another size is built
for that size (`img_size`, `ref_feat_shape`), where the two rules are one.
"""

from typing import Any

import open_clip
import pytest
import torch
from torch import Tensor

from midsight import checkpoints, pe
from midsight.configs import MODELS, with_image_size
from tests import peers

SMALL = ["PE-Core-T16-384", "PE-Core-S16-384", "PE-Core-B16-224", "PE-Spatial-T16-512"]
WIDTH, HEADS, DEPTH = 192, 2, 3  # heads of 96, as G has
SHRUNK: dict[str, dict[str, Any]] = {name: {} for name in ("PE-Core-G14-448", "PE-Lang-G14-448", "PE-Spatial-G14-448")}
SHRUNK["PE-Lang-L14-448"] = {}
SIZES = [(1, 1), (3, 2), (2, 5)]  # in parts of the shrunk models' 4x4 grid


def agree(ours: Tensor, theirs: Tensor) -> None:
    """Equal up to rounding, on outputs large enough to tell."""
    assert theirs.std() > 0.1
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def run(theirs: Any, x: Tensor) -> Tensor:
    """What the published forward gives: embeddings with a head, else the tokens, which timm pools by default."""
    return theirs(x) if theirs.num_classes else theirs.forward_features(x)


def images(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("name", SMALL)
@torch.inference_mode()
def test_timms_weights_in_ours(name: str) -> None:
    theirs = peers.timm_tower(name)
    ours = pe.VisionTransformer.from_config(name).eval()
    ours.load_state_dict(checkpoints.from_timm(theirs.state_dict()))
    x = images(ours.image_size, ours.image_size)
    agree(ours(x), run(theirs, x))


@pytest.mark.parametrize("name", SMALL)
@torch.inference_mode()
def test_our_weights_in_timms(name: str) -> None:
    ours = peers.randomize(pe.VisionTransformer.from_config(name).eval(), seed=1)
    theirs = peers.timm_tower(name, seed=2)
    theirs.load_state_dict(checkpoints.to_timm(ours.state_dict()))
    x = images(ours.image_size, ours.image_size)
    agree(ours(x), run(theirs, x))


@pytest.mark.parametrize("name", ["PE-Core-T16-384", "PE-Core-S16-384"])
@torch.inference_mode()
def test_timms_other_layers(name: str) -> None:
    theirs = peers.timm_tower(name)
    ours = pe.VisionTransformer.from_config(name).eval()
    ours.load_state_dict(checkpoints.from_timm(theirs.state_dict()))
    x = images(ours.image_size, ours.image_size)
    expected = theirs.forward_intermediates(x, indices=[0, 5, 11], norm=False, intermediates_only=True)
    for found, layer in zip(ours.forward_intermediates(x, layers=[0, 5, 11], as_maps=True), expected, strict=True):
        agree(found, layer)


def shrunk(name: str, size: int, seed: int) -> tuple[pe.VisionTransformer, Any]:
    """A published tower with fewer and narrower blocks, all else as it is, and its twin in timm."""
    base = MODELS[name].vision
    config = with_image_size(base, size)
    config = type(base)(**{**vars(config), "width": WIDTH, "heads": HEADS, "layers": DEPTH})
    ours = peers.randomize(pe.VisionTransformer(config).eval(), seed)
    grid = size // base.patch_size
    theirs = peers.timm_tower(
        name, seed=seed + 1, embed_dim=WIDTH, num_heads=HEADS, depth=DEPTH, img_size=size, ref_feat_shape=(grid, grid)
    )
    return ours, theirs


@pytest.mark.parametrize("name", SHRUNK)
@torch.inference_mode()
def test_shrunk_giants_with_our_weights(name: str) -> None:
    ours, theirs = shrunk(name, 56, seed=3)
    theirs.load_state_dict(checkpoints.to_timm(ours.state_dict()))
    x = images(56, 56)
    agree(ours(x), run(theirs, x))


@pytest.mark.parametrize("name", SHRUNK)
@torch.inference_mode()
def test_shrunk_giants_with_timms_weights(name: str) -> None:
    ours, theirs = shrunk(name, 56, seed=5)
    ours.load_state_dict(checkpoints.from_timm(theirs.state_dict()))
    assert ("class_embedding" in ours.state_dict()) == (name == "PE-Lang-L14-448")
    assert any("gamma" in key for key in ours.state_dict()) == (name != "PE-Core-G14-448")
    x = images(56, 56)
    agree(ours(x), run(theirs, x))


@pytest.mark.parametrize("name", ["PE-Core-T16-384", "PE-Core-G14-448", "PE-Lang-L14-448"])
@pytest.mark.parametrize("grid", [(3, 3), (5, 7), (9, 2)])
@torch.inference_mode()
def test_other_grids(name: str, grid: tuple[int, int]) -> None:
    """Without a position table, whose resampling differs on purpose, any grid must agree: RoPE's rule alone."""
    patch = MODELS[name].vision.patch_size
    size = (grid[0] * patch, grid[1] * patch)
    ours, _ = shrunk(name, 4 * patch, seed=7)
    theirs = peers.timm_tower(name, embed_dim=WIDTH, num_heads=HEADS, depth=DEPTH, img_size=size, ref_feat_shape=grid)
    state = ours.state_dict()
    state["positional_embedding"].zero_()
    ours.load_state_dict(state)
    rows = grid[0] * grid[1] + int("class_embedding" in state)
    theirs.load_state_dict(checkpoints.to_timm({**state, "positional_embedding": torch.zeros(rows, WIDTH)}))
    x = images(*size)
    agree(ours(x), run(theirs, x))


@pytest.mark.parametrize("name", ["PE-Core-T16-384", "PE-Core-G14-448"])
@torch.inference_mode()
def test_a_table_made_for_another_size(name: str) -> None:
    """A tower with its own table at 6x6, native on both sides."""
    patch = MODELS[name].vision.patch_size
    ours, theirs = shrunk(name, 6 * patch, seed=9)
    theirs.load_state_dict(checkpoints.to_timm(ours.state_dict()))
    x = images(6 * patch, 6 * patch)
    agree(ours(x), run(theirs, x))


CAPTIONS = ["a photo of a cat", "日本語 and émoji 🐕", "word " * 60]


@pytest.mark.parametrize("name", ["PE-Core-T16-384", "PE-Core-S16-384", "PE-Core-B16-224"])
@torch.inference_mode()
def test_open_clips_pair_in_ours_and_back(name: str) -> None:
    theirs = peers.open_clip_pair(name)
    model = MODELS[name]
    assert model.text is not None
    with torch.device("meta"):
        ours = pe.CLIP(model.vision, model.text).eval()
    ours.load_state_dict(checkpoints.from_open_clip(theirs.state_dict()), assign=True)
    x = images(ours.image_size, ours.image_size)
    ids = open_clip.get_tokenizer(peers.OPEN_CLIP_NAMES[name])(CAPTIONS)
    agree(ours.encode_image(x), theirs.encode_image(x))
    agree(ours.encode_text(ids), theirs.encode_text(ids))
    back = checkpoints.to_open_clip(ours.state_dict())
    theirs.load_state_dict(back, assign=True)  # strict
    assert all(torch.equal(back[key], tensor) for key, tensor in theirs.state_dict().items())


@torch.inference_mode()
def test_our_pair_in_open_clips() -> None:
    name = "PE-Core-T16-384"
    ours = peers.randomize(pe.CLIP.from_config(name).eval(), seed=4)
    theirs = peers.open_clip_pair(name)
    theirs.load_state_dict(checkpoints.to_open_clip(ours.state_dict()))
    x = images(ours.image_size, ours.image_size)
    ids = open_clip.get_tokenizer(peers.OPEN_CLIP_NAMES[name])(CAPTIONS)
    for found, expected in zip(ours(x, ids), theirs(x, ids), strict=True):  # of length 1, and the scale
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    agree(ours.encode_image(x), theirs.encode_image(x))
    agree(ours.encode_text(ids), theirs.encode_text(ids))
