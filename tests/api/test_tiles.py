"""Pictures in tiles, and who is warned: a tiny tower under the names of the published ones."""

import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from midsight import Perception
from midsight.configs import PEConfig, PreprocessConfig
from midsight.errors import LayerError
from midsight.pe import VisionTransformer
from midsight.transforms import tiling
from midsight.transforms.tiling import tile_image
from tests.peers import randomize

TOWER = PEConfig(14, 32, 3, 2, 3.0, None, image_size=56, use_cls_token=True, pool_type="none", use_ln_post=False)


def perception(name: str) -> Perception:
    tower = randomize(VisionTransformer(TOWER).eval())
    return Perception(tower, PreprocessConfig(56), name=name, identity=lambda: "tiny")


@pytest.fixture(autouse=True)
def nothing_said_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiling, "_said", set())


@pytest.fixture
def page() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (1000, 700, 3), dtype=np.uint8))


def test_features_of_tiles_are_those_of_each_tile(page: Image.Image) -> None:
    model = perception("PE-Lang-L14-448-Tiling")
    found = model.tile_features(page, [0, -1], max_tiles=6, batch_size=3)
    tiles = tile_image(page, 6, tile=56)
    assert [maps.shape for maps in found] == [(len(tiles), 32, 4, 4)] * 2
    with torch.inference_mode():
        expected = model.tower.forward_features(tiles, strip_cls_token=True)
    assert expected.std() > 0.1
    np.testing.assert_allclose(found[1].reshape(len(tiles), 32, 16).transpose(0, 2, 1), expected, atol=1e-4)
    tokens = model.tile_features(page, [-1], max_tiles=6, as_maps=False)[0]
    assert tokens.shape == (len(tiles), 17, 32)
    with pytest.raises(LayerError, match="at least one layer"):
        model.tile_features(page, [])


def test_tiles_for_an_encoder_without_tiling_warn_once(page: Image.Image) -> None:
    model = perception("PE-Lang-L14-448")
    with pytest.warns(UserWarning, match="use PE-Lang-L14-448-Tiling"):
        model.tile_features(page, [-1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.tile_features(page, [-1])


@pytest.mark.parametrize("name", ["PE-Lang-L14-448", "PE-Lang-L14-448-Tiling"])
def test_a_large_page_that_is_squashed_warns_once(name: str, page: Image.Image) -> None:
    model = perception(name)
    with pytest.warns(UserWarning, match="700x1000 becomes 448x448.*PE-Lang-L14-448-Tiling with max_tiles"):
        model.features(page, [-1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.embed_images([page])


def test_others_are_let_pass(page: Image.Image) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        perception("PE-Spatial-L14-448").features(page, [-1])
        perception("PE-Lang-L14-448").features(page.resize((400, 500)), [-1])
