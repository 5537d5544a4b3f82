"""The published layout: entry counts, parameter counts and wrappers."""

import math

import pytest
import torch

from midsight import checkpoints
from midsight.checkpoints.official import unwrap
from midsight.configs import MODELS
from midsight.errors import CheckpointError
from tests.checkpoints import tiny

PUBLISHED = {  # entries, parameters: of the pair for Core, of the tower otherwise
    "PE-Core-T16-384": (313, 69_545_601),
    "PE-Core-S16-384": (313, 87_187_713),
    "PE-Core-B16-224": (457, 447_659_521),
    "PE-Core-L14-336": (601, 671_137_793),
    "PE-Core-G14-448": (912, 2_419_266_561),
    "PE-Lang-L14-448": (327, 291_415_040),
    "PE-Lang-L14-448-Tiling": (327, 291_415_040),
    "PE-Lang-G14-448": (662, 1_740_922_624),
    "PE-Lang-G14-448-Tiling": (662, 1_740_922_624),
    "PE-Spatial-T16-512": (149, 5_683_200),
    "PE-Spatial-S16-512": (149, 21_983_232),
    "PE-Spatial-B16-512": (149, 86_433_792),
    "PE-Spatial-L14-448": (293, 303_964_160),
    "PE-Spatial-G14-448": (704, 1_851_887_104),
}


@pytest.mark.parametrize("name", MODELS)
def test_entries_and_parameters_are_the_published_ones(name: str) -> None:
    shapes = checkpoints.expected_shapes(MODELS[name].vision, MODELS[name].text)
    assert (len(shapes), sum(math.prod(shape) for shape in shapes.values())) == PUBLISHED[name]


@pytest.mark.parametrize("wrapper", [None, "state_dict", "weights", "model"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_wrappers_are_taken_off(wrapper: str | None, prefix: str) -> None:
    ours = tiny.pair()
    wrapped: dict[str, object] = {prefix + key: tensor for key, tensor in ours.items()}
    wrapped = {wrapper: wrapped, "epoch": 3} if wrapper else wrapped
    assert tiny.same(checkpoints.from_official(unwrap(wrapped)), ours)


def test_visual_stays_beside_text_and_goes_from_a_tower_alone() -> None:
    ours = tiny.weights(tiny.LANG)
    assert tiny.same(checkpoints.from_official({f"module.visual.{k}": v for k, v in ours.items()}), ours)
    assert tiny.same(checkpoints.from_official(ours), ours)
    assert any(key.startswith("visual.") for key in checkpoints.from_official(tiny.pair()))


def test_two_keys_that_become_one_are_an_error() -> None:
    with pytest.raises(CheckpointError, match="two tensors"):
        checkpoints.from_official({"module.proj": torch.zeros(1), "proj": torch.zeros(1)})


@pytest.mark.parametrize("loaded", [[1, 2], {}, {"a": 1}, {1: torch.zeros(1)}, torch.zeros(3), {"state_dict": {}}])
def test_what_is_no_state_dict_is_an_error(loaded: object) -> None:
    with pytest.raises(CheckpointError, match="expected"):
        unwrap(loaded)
