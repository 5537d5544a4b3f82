"""Configurations: the published ones against the paper's figures, and what cannot be."""

import pytest
import torch

from midsight import pe
from midsight.configs import MODELS, PEConfig, PETextConfig, PreprocessConfig, find_model
from midsight.errors import ConfigError, UnknownModelError

# Parameters of the towers and entries of the whole state dict, computed from the published code's shapes.
COUNTS = {
    "PE-Core-T16-384": (69_545_601, 313),
    "PE-Core-S16-384": (87_187_713, 313),
    "PE-Core-B16-224": (447_659_521, 457),
    "PE-Core-L14-336": (671_137_793, 601),
    "PE-Core-G14-448": (2_419_266_561, 912),
    "PE-Lang-L14-448": (291_415_040, 327),
    "PE-Lang-L14-448-Tiling": (291_415_040, 327),
    "PE-Lang-G14-448": (1_740_922_624, 662),
    "PE-Lang-G14-448-Tiling": (1_740_922_624, 662),
    "PE-Spatial-T16-512": (5_683_200, 149),
    "PE-Spatial-S16-512": (21_983_232, 149),
    "PE-Spatial-B16-512": (86_433_792, 149),
    "PE-Spatial-L14-448": (303_964_160, 293),
    "PE-Spatial-G14-448": (1_851_887_104, 704),
}


def test_every_published_configuration_is_there() -> None:
    assert set(MODELS) == set(COUNTS)


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_and_entries(name: str) -> None:
    info = MODELS[name]
    with torch.device("meta"):
        model = pe.CLIP.from_config(name) if info.text else pe.VisionTransformer.from_config(name)
    assert (sum(p.numel() for p in model.parameters()), len(model.state_dict())) == COUNTS[name]
    assert info.preprocess == PreprocessConfig(image_size=info.vision.image_size)


def test_names_are_found_or_suggested() -> None:
    assert find_model("PE-Core-T16-384").text == PETextConfig(32, 512, 8, 12, 512)
    with pytest.raises(UnknownModelError, match="Did you mean PE-Spatial-G14-448"):
        find_model("PE-Spatial-G14")


GOOD = dict(patch_size=16, width=64, layers=2, heads=2, mlp_ratio=4.0, output_dim=8, image_size=64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 3}, "not a multiple of heads"),
        ({"layers": 0}, "layers must be at least 1"),
        ({"image_size": 65}, "not a multiple of patch_size"),
        ({"width": 12, "heads": 2}, "2D RoPE"),
        ({"pool_type": "max"}, "pool_type"),
        ({"pool_type": "tok"}, "use_cls_token"),
        ({"stem": "resnet"}, "stem must be"),
        ({"stem": "efficientnet_lite2"}, "patch_size 16"),
    ],
)
def test_a_tower_that_cannot_be(change: dict[str, object], message: str) -> None:
    PEConfig(**GOOD)
    with pytest.raises(ConfigError, match=message):
        PEConfig(**(GOOD | change))


@pytest.mark.parametrize(
    "change", [{"image_size": 0}, {"resize": "pad"}, {"interpolation": "nearest"}, {"std": (0.5, 0.5, 0.0)}]
)
def test_a_preprocessing_that_cannot_be(change: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        PreprocessConfig(**({"image_size": 224} | change))


def test_json_lists_become_tuples() -> None:
    assert PreprocessConfig(image_size=8, mean=[0.5, 0.5, 0.5]) == PreprocessConfig(image_size=8)
