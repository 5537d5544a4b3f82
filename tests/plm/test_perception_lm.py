"""transformers' layout, both ways, against its own PerceptionLM."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from midsight.errors import CheckpointError, ShapeError
from midsight.plm import PLM
from tests.plm import peers

VARIANTS = {
    "class token, tied, scaled positions": dict(),
    "no class token, untied": dict(class_token=False, tied=False, scaled=False),
    "no pooling": dict(tied=False, pooling=1),
}
PROMPTS = [dict(), dict(images=1, tiles=3), dict(images=2), dict(frames=4), dict(images=1, tiles=2, frames=2)]


class Made:
    def __init__(self, folder: Path, variant: str) -> None:
        self.folder, self.peer = folder, peers.perception_lm(**VARIANTS[variant])
        self.peer.save_pretrained(folder)
        self.tokens = (peers.SIDE // peers.PATCH // self.peer.config.projector_pooling_ratio) ** 2

    @torch.inference_mode()
    def logits(self, given: dict[str, Any]) -> torch.Tensor:
        return self.peer(**given, attention_mask=torch.ones_like(given["input_ids"])).logits


@pytest.fixture(params=VARIANTS, scope="module")
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("plm"), request.param)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("one"), "class token, tied, scaled positions")


@pytest.mark.parametrize("shape", PROMPTS, ids=str)
@torch.inference_mode()
def test_logits_are_those_of_transformers(made: Made, shape: dict[str, int]) -> None:
    given = peers.prompt(made.tokens, **shape)
    expected = made.logits(given)
    assert expected.std() > 0.5
    for name in ("pixel_values", "pixel_values_videos"):
        if name in given:  # the pixels must matter, else equality shows nothing
            assert (made.logits({**given, name: -given[name]}) - expected).abs().max() > 0.05
    torch.testing.assert_close(PLM.from_pretrained(made.folder)(**given), expected, atol=2e-4, rtol=0)


@torch.inference_mode()
def test_what_is_saved_is_read_by_transformers(made: Made, tmp_path: Path) -> None:
    from transformers import PerceptionLMForConditionalGeneration

    PLM.from_pretrained(made.folder).save_pretrained(tmp_path / "saved")
    again = PerceptionLMForConditionalGeneration.from_pretrained(tmp_path / "saved").eval()
    given = peers.prompt(made.tokens, images=1, tiles=3, frames=2)
    expected = made.logits(given)
    theirs = again(**given, attention_mask=torch.ones_like(given["input_ids"])).logits
    torch.testing.assert_close(theirs, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(PLM.from_pretrained(tmp_path / "saved")(**given), expected, atol=2e-4, rtol=0)
    assert again.generation_config.eos_token_id == [peers.END]


@torch.inference_mode()
def test_other_language_models(tmp_path: Path) -> None:
    """A decoder that is no Llama: its biases and norms come along."""
    from transformers import PerceptionLMForConditionalGeneration

    config = peers.perception_lm().config.to_dict()
    config["text_config"] = dict(
        model_type="qwen3", vocab_size=peers.VOCABULARY, hidden_size=48, intermediate_size=80, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=16, max_position_embeddings=512,
        tie_word_embeddings=True, eos_token_id=peers.END,
    )  # fmt: skip
    peer = PerceptionLMForConditionalGeneration(type(peers.perception_lm().config).from_dict(config)).float().eval()
    peers.redrawn(peer, seed=1)
    peer.save_pretrained(tmp_path)
    given = peers.prompt(4, images=1, tiles=2)
    expected = peer(**given, attention_mask=torch.ones_like(given["input_ids"])).logits
    model = PLM.from_pretrained(tmp_path)
    assert model.config.text["model_type"] == "qwen3"
    torch.testing.assert_close(model(**given), expected, atol=2e-4, rtol=0)


def test_weights_keep_their_dtype_or_get_another(one: Made, tmp_path: Path) -> None:
    assert PLM.from_pretrained(one.folder).dtype is torch.float32
    half = PLM.from_pretrained(one.folder, dtype=torch.bfloat16)
    norms = ("vision_model.ln_", ".ln_1.", ".ln_2.")  # the tower's compute in float32
    assert {p.dtype for name, p in half.named_parameters() if not any(n in name for n in norms)} == {torch.bfloat16}
    half.save_pretrained(tmp_path / "half")
    assert PLM.from_pretrained(tmp_path / "half").dtype is torch.bfloat16


@pytest.mark.parametrize("extra", [-1, 1])
def test_another_number_of_places_than_of_visual_tokens_is_refused(one: Made, extra: int) -> None:
    given = peers.prompt(one.tokens + extra, images=1)
    with pytest.raises(ShapeError, match=f"{one.tokens + extra} image tokens.*have {one.tokens} "):
        PLM.from_pretrained(one.folder)(**given)


def edited(made: Made, folder: Path, **changes: Any) -> Path:
    """A copy whose config.json differs; a value of None takes the entry out."""
    shutil.copytree(made.folder, folder)
    config = json.loads((folder / "config.json").read_text()) | changes
    peers.write_json(folder / "config.json", {key: value for key, value in config.items() if value is not None})
    return folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(model_type="llava"), "'llava', expected 'perception_lm': this folder holds another architecture"),
        (dict(text_config=None), "text_config and vision_config"),
        (dict(vision_config=dict(architecture="resnet50")), "'resnet50', expected a PE of timm"),
        (dict(vision_use_cls_token=False), "vision_use_cls_token is not what the tower has"),
        (dict(projector_pooling_ratio=3), "3 does not divide the tower's grid of 4 x 4"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_another_architecture_is_named(one: Made, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    folder = edited(one, tmp_path / "edited", **changes)
    with pytest.raises(CheckpointError, match=message) as caught:
        PLM.from_pretrained(folder)
    assert str(folder) in str(caught.value)


def test_an_unknown_override_of_the_tower_is_refused(one: Made, tmp_path: Path) -> None:
    vision = json.loads((one.folder / "config.json").read_text())["vision_config"]
    vision["model_args"]["rope_temperature"] = 100.0
    with pytest.raises(CheckpointError, match="'rope_temperature', which is not known here"):
        PLM.from_pretrained(edited(one, tmp_path / "edited", vision_config=vision))


def test_weights_that_do_not_fit_are_named(one: Made, tmp_path: Path) -> None:
    text = json.loads((one.folder / "config.json").read_text())["text_config"]
    with pytest.raises(CheckpointError, match=r"the language model do not fit.*missing, the first is 'model\.layers"):
        PLM.from_pretrained(edited(one, tmp_path / "more", text_config={**text, "num_hidden_layers": 3}))
    with pytest.raises(CheckpointError, match=r"gate_proj.*expected \(96, 48\)"):
        PLM.from_pretrained(edited(one, tmp_path / "wide", text_config={**text, "intermediate_size": 96}))


def test_folders_that_hold_no_plm(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such folder"):
        PLM.from_pretrained(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="no PLM: expected config.json"):
        PLM.from_pretrained(tmp_path / "empty")
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"")
    with pytest.raises(CheckpointError, match="is a file, expected the folder"):
        PLM.from_pretrained(file)


def test_cut_weights_are_named(one: Made, tmp_path: Path) -> None:
    folder = edited(one, tmp_path / "cut")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match="model.safetensors.*not a whole safetensors file"):
        PLM.from_pretrained(folder)
