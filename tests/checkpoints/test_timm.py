"""timm's layout against timm's own models, and both ways without loss."""

import pytest
import timm
import torch

from midsight import checkpoints
from midsight.configs import MODELS
from midsight.errors import CheckpointError
from tests import peers
from tests.checkpoints import tiny


@pytest.mark.parametrize("name", MODELS)
def test_names_and_shapes_are_those_of_timms_own_model(name: str) -> None:
    with torch.device("meta"):
        theirs = timm.create_model(peers.TIMM_NAMES[name]).state_dict()
        ours = {k: torch.empty(shape) for k, shape in checkpoints.expected_shapes(MODELS[name].vision).items()}
    written = checkpoints.to_timm(ours)
    assert {k: v.shape for k, v in written.items()} == {k: v.shape for k, v in theirs.items()}
    if "head.bias" in theirs:  # its values are looked at
        theirs["head.bias"] = torch.zeros(theirs["head.bias"].shape, device="cpu")
    read = checkpoints.from_timm(theirs)
    assert {k: v.shape for k, v in read.items()} == {k: v.shape for k, v in ours.items()}


@pytest.mark.parametrize("tower", tiny.TOWERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_there_and_back_is_bit_equal(tower: str, dtype: torch.dtype) -> None:
    ours = {key: tensor.to(dtype) for key, tensor in tiny.weights(tiny.TOWERS[tower]).items()}
    theirs = checkpoints.to_timm(ours)
    assert tiny.same(checkpoints.from_timm(theirs), ours)
    assert tiny.same(checkpoints.to_timm(checkpoints.from_timm(theirs)), theirs)


def test_conversion_copies_no_weights() -> None:
    ours = tiny.weights()
    places = {tensor.untyped_storage().data_ptr() for tensor in ours.values()}
    copied = [k for k, t in checkpoints.to_timm(ours).items() if t.untyped_storage().data_ptr() not in places]
    assert copied == ["head.bias"]


def test_head_is_the_projection_transposed_with_a_zero_bias() -> None:
    ours = tiny.weights()
    theirs = checkpoints.to_timm(ours)
    assert torch.equal(theirs["head.weight"], ours["proj"].T)
    assert theirs["head.bias"].shape == (48,)
    assert not theirs["head.bias"].any()


def test_a_bias_in_the_head_is_an_error() -> None:
    theirs = checkpoints.to_timm(tiny.weights())
    theirs["head.bias"][3] = 0.5
    with pytest.raises(CheckpointError, match=r"head\.bias is not zero"):
        checkpoints.from_timm(theirs)


def test_text_has_no_place() -> None:
    with pytest.raises(CheckpointError, match="no place for a text tower"):
        checkpoints.to_timm(tiny.pair())
    theirs = checkpoints.to_timm(checkpoints.vision_tower(tiny.pair()))
    assert tiny.same(checkpoints.from_timm(theirs), checkpoints.vision_tower(tiny.pair()))


def test_a_packaged_stem_has_no_place() -> None:
    with pytest.raises(CheckpointError, match="packaged stem"):
        checkpoints.to_timm(tiny.weights() | {"stem.conv.weight": torch.zeros(32, 3, 3, 3)})


def test_half_of_the_pooling_is_an_error() -> None:
    theirs = checkpoints.to_timm(tiny.weights())
    del theirs["attn_pool.kv.weight"]
    with pytest.raises(CheckpointError, match="one is missing"):
        checkpoints.from_timm(theirs)


def test_two_names_for_one_parameter_are_an_error() -> None:
    theirs = checkpoints.to_timm(tiny.weights())
    theirs["positional_embedding"] = theirs["pos_embed"]
    with pytest.raises(CheckpointError, match="two tensors"):
        checkpoints.from_timm(theirs)
