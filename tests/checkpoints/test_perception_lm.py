"""The vision tower of a PerceptionLM: transformers' own model as the peer, and the native names."""

import pytest
import torch
from transformers import PerceptionLMConfig, PerceptionLMForConditionalGeneration

from midsight import checkpoints
from midsight.configs import MODELS
from midsight.errors import CheckpointError
from tests.checkpoints import tiny

VISION = {  # as transformers' converter describes PE-Lang-L
    "architecture": "vit_pe_core_large_patch14_336",
    "do_pooling": True,
    "num_classes": 1024,
    "global_pool": "map",
    "initializer_range": 0.02,
    "model_args": {
        "embed_dim": 1024,
        "depth": 23,
        "img_size": (448, 448),
        "global_pool": "",
        "use_post_transformer_norm": False,
        "init_values": 0.1,
        "ref_feat_shape": (32, 32),
    },
}
LANGUAGE = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, vocab_size=256)


def transformers_state() -> dict[str, torch.Tensor]:
    """What transformers saves for a PerceptionLM with the tower of PE-Lang-L and a very small language model."""
    config = PerceptionLMConfig(
        vision_config={"model_type": "timm_wrapper", **VISION}, text_config={"model_type": "llama", **LANGUAGE}
    )
    with torch.device("meta"):
        return PerceptionLMForConditionalGeneration(config).state_dict()


def test_names_and_shapes_are_those_of_transformers_own_model() -> None:
    theirs = transformers_state()
    shapes = checkpoints.expected_shapes(MODELS["PE-Lang-L14-448"].vision)
    assert {k: tuple(v.shape) for k, v in checkpoints.from_perception_lm(theirs).items()} == shapes
    written = checkpoints.to_perception_lm({k: torch.empty(shape, device="meta") for k, shape in shapes.items()})
    tower = {k: v.shape for k, v in theirs.items() if "vision_tower" in k}
    assert {k: v.shape for k, v in written.items()} == tower


@pytest.mark.parametrize("write", [checkpoints.to_perception_lm, checkpoints.to_perception_lm_native])
def test_there_and_back_is_bit_equal(write: type) -> None:
    ours = tiny.weights(tiny.LANG)
    assert tiny.same(checkpoints.from_perception_lm(write(ours)), ours)


def test_what_lies_beside_the_tower_is_not_read() -> None:
    ours = tiny.weights(tiny.LANG)
    beside = {"model.language_model.norm.weight": torch.ones(3), "lm_head.weight": torch.ones(3, 3)}
    assert tiny.same(checkpoints.from_perception_lm(checkpoints.to_perception_lm(ours) | beside), ours)
    native = {"tok_embeddings.weight": torch.ones(3, 3), "vision_projector.projector.0.bias": torch.ones(3)}
    assert tiny.same(checkpoints.from_perception_lm(checkpoints.to_perception_lm_native(ours) | native), ours)


def test_no_tower_and_a_text_tower_are_errors() -> None:
    with pytest.raises(CheckpointError, match="no PerceptionLM vision tower"):
        checkpoints.from_perception_lm({"lm_head.weight": torch.ones(3, 3)})
    with pytest.raises(CheckpointError, match="no place for PE's text tower"):
        checkpoints.to_perception_lm(tiny.pair())
