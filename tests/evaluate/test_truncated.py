"""The encoder cut at a layer: opened again, equal to the whole one read there, and faster."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import midsight
from midsight.errors import LayerError
from midsight.evaluate.truncated import save_truncated, speedup
from tests.conftest import TINY_DENSE, save_tiny


@pytest.fixture
def pictures() -> list[Image.Image]:
    dice = np.random.default_rng(0)
    return [Image.fromarray(dice.integers(0, 256, (40, 50, 3), dtype=np.uint8)) for _ in range(3)]


@pytest.mark.parametrize("source", ["pair", "tower", "embedded"])
def test_the_cut_encoder_is_the_whole_one_read_at_that_layer(
    source: str, tiny_folder: Path, dense_folder: Path, pictures: list[Image.Image], tmp_path: Path
) -> None:
    where = {"pair": tiny_folder, "tower": dense_folder, "embedded": None}[source]
    size = None if source == "embedded" else 48
    whole = midsight.load(where, device="cpu", image_size=size)
    folder = save_truncated(whole, 0, tmp_path / "cut", metadata={"why": "best"})
    cut = midsight.load(folder, device="cpu")
    assert (cut.tower.layers, cut.has_text, cut.preprocess) == (1, False, whole.preprocess)
    (expected,) = whole.features(pictures, [0])
    np.testing.assert_allclose(cut.features(pictures, [-1])[0], expected, rtol=1e-5, atol=1e-5)
    mean = torch.nn.functional.normalize(torch.from_numpy(expected).mean(dim=(2, 3)), dim=1)
    np.testing.assert_allclose(cut.embed_images(pictures), mean.numpy(), atol=1e-5)
    assert not any(key.startswith(("attn_pool", "proj", "ln_post")) for key in cut.tower.state_dict())


def test_a_pair_keeps_its_head_and_its_texts(
    tiny_model: midsight.Perception, pictures: list[Image.Image], tmp_path: Path
) -> None:
    cut = midsight.load(save_truncated(tiny_model, 1, tmp_path / "cut", pair=True), device="cpu")
    assert cut.tower.layers == 2
    np.testing.assert_allclose(cut.embed_texts(["a cat"]), tiny_model.embed_texts(["a cat"]), atol=1e-6)
    images = torch.stack([tiny_model._transform(picture) for picture in pictures])
    with torch.no_grad():
        expected = tiny_model.tower(images, layer_idx=1)
    found = torch.from_numpy(cut.embed_images(pictures))
    torch.testing.assert_close(found, torch.nn.functional.normalize(expected, dim=1), rtol=1e-4, atol=1e-5)


def test_a_cut_encoder_is_faster(tmp_path: Path) -> None:
    deep = save_tiny(tmp_path / "deep", seed=0, vision=replace(TINY_DENSE, layers=12), text=None)
    whole = midsight.load(deep, device="cpu")
    faster = speedup(whole, midsight.load(save_truncated(whole, 0, tmp_path / "cut"), device="cpu"), rounds=5)
    assert faster.low <= faster.ratio <= faster.high
    assert faster.ratio > 1.5
    assert str(faster).startswith(f"{faster.ratio:.2f}x (")
    assert "5 rounds" in str(faster)
    with pytest.raises(LayerError):
        save_truncated(whole, 12, tmp_path / "none")
    assert not (tmp_path / "none").exists()
