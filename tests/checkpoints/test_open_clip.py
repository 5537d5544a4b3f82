"""open_clip's layout against open_clip's own models, and both ways without loss."""

import open_clip
import pytest
import torch

from midsight import checkpoints
from midsight.configs import MODELS
from midsight.errors import CheckpointError
from tests import peers
from tests.checkpoints import tiny


@pytest.mark.parametrize("name", ["PE-Core-T16-384", "PE-Core-S16-384", "PE-Core-B16-224"])
def test_names_and_shapes_are_those_of_open_clips_own_model(name: str) -> None:
    theirs = peers.open_clip_pair(name, drawn=False).state_dict()
    model = MODELS[name]
    with torch.device("meta"):
        ours = {k: torch.empty(shape) for k, shape in checkpoints.expected_shapes(model.vision, model.text).items()}
    assert {k: v.shape for k, v in checkpoints.to_open_clip(ours).items()} == {k: v.shape for k, v in theirs.items()}
    assert {k: v.shape for k, v in checkpoints.from_open_clip(theirs).items()} == {k: v.shape for k, v in ours.items()}


def test_every_core_model_has_a_name_there() -> None:
    assert set(peers.OPEN_CLIP_NAMES) == {name for name, model in MODELS.items() if model.text}
    assert set(peers.OPEN_CLIP_NAMES.values()) <= set(open_clip.list_models())


def test_there_and_back_is_bit_equal() -> None:
    ours = tiny.pair()
    theirs = checkpoints.to_open_clip(ours)
    assert tiny.same(checkpoints.from_open_clip(theirs), ours)
    assert tiny.same(checkpoints.to_open_clip(checkpoints.from_open_clip(theirs)), theirs)


def test_a_tower_alone_has_no_place() -> None:
    with pytest.raises(CheckpointError, match="needs both towers"):
        checkpoints.to_open_clip(tiny.weights(tiny.LANG))


def test_another_open_clip_model_is_an_error() -> None:
    theirs = checkpoints.to_open_clip(tiny.pair()) | {"logit_bias": torch.zeros(())}
    with pytest.raises(CheckpointError, match="'logit_bias'"):
        checkpoints.from_open_clip(theirs)
