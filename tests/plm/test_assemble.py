"""A PLM out of parts: whose token becomes the image token, where nothing grows and where something must."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from midsight import pe
from midsight.configs import PEConfig
from midsight.errors import CheckpointError
from midsight.plm import PLM
from midsight.plm.assemble import join, open_language, with_image_token
from midsight.plm.tokenizer import JsonTokenizer
from tests import peers
from tests.train import lang

MARKS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TOWER = PEConfig(
    patch_size=16, width=32, layers=2, heads=2, mlp_ratio=2.0, output_dim=None, image_size=32, pool_type="none",
    use_ln_post=False,
)  # fmt: skip
LLAMA3 = ("<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|finetune_right_pad_id|>",
          "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")  # fmt: skip


@pytest.mark.parametrize(
    ("names", "taken"),
    [
        ((*MARKS, "<repo_name>", "<empty_output>"), "<empty_output>"),
        ((*MARKS, "<repo_name>", "<file_sep>"), "<repo_name>"),
        ((*MARKS, "<|image_pad|>", "<|video_pad|>"), "<|image_pad|>"),
        (LLAMA3, "<|reserved_special_token_0|>"),
    ],
)
def test_a_token_that_no_chat_uses_becomes_the_image_token(tmp_path: Path, names: tuple[str, ...], taken: str) -> None:
    folder = lang.language(tmp_path / "language", names)
    before = JsonTokenizer(folder / "tokenizer.json")
    found = open_language(folder)
    assert found.image_token_id == before.special_tokens[taken]
    assert found.tokenizer.special_tokens == {
        "<|image|>" if name == taken else name: number for name, number in before.special_tokens.items()
    }
    text = "What is <repo_name>, what <|image|>?"
    assert found.tokenizer.encode(text) == before.encode(text)
    assert found.model.get_input_embeddings().num_embeddings == found.text["vocab_size"]
    end = "<|eot_id|>" if names is LLAMA3 else "<|im_end|>"
    assert found.stop_token_ids[0] == before.special_tokens[end]


def test_a_token_is_added_where_none_is_free(tmp_path: Path) -> None:
    """In a spare row of the table, or else in one more."""
    spare = open_language(lang.language(tmp_path / "spare", MARKS, spare=2))
    assert spare.image_token_id == spare.text["vocab_size"] - 2
    full = open_language(lang.language(tmp_path / "full", MARKS))
    assert full.image_token_id == full.text["vocab_size"] - 1
    assert full.model.get_input_embeddings().num_embeddings == full.text["vocab_size"]
    assert spare.tokenizer.special_tokens["<|image|>"] == full.tokenizer.special_tokens["<|image|>"]
    again = with_image_token(full.tokenizer)
    assert again is full.tokenizer


@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen2"])
def test_any_decoder_and_any_patch_come_back_from_a_folder(tmp_path: Path, kind: str) -> None:
    """What transformers' PerceptionLM has no place for is written in midsight's own layout."""
    more: dict[str, Any] = {"llama": {}, "gpt2": dict(n_embd=64, n_layer=2, n_head=4), "qwen2": {}}[kind]
    found = open_language(lang.language(tmp_path / "language", model_type=kind, **more))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = _joined(found)
    ids = torch.tensor([[5, *[found.image_token_id] * 4, 7, 9]])
    pixels = torch.randn(1, 1, 3, 32, 32)
    model.eval().save_pretrained(tmp_path / "plm")
    again = PLM.from_pretrained(tmp_path / "plm")
    assert again.tokenizer is not None
    assert again.tokenizer.special_tokens["<|image|>"] == again.config.image_token_id == found.image_token_id
    limits = again.config.max_tiles, again.config.max_frames, again.config.context_length
    assert limits == (2, 4, 512)
    with torch.no_grad():
        torch.testing.assert_close(again(ids, pixels), model(ids, pixels), rtol=1e-4, atol=1e-5)


def _joined(found: Any, vision: PEConfig = TOWER) -> PLM:
    tower = peers.randomize(pe.VisionTransformer(vision), seed=3)
    return join(found, vision, tower.state_dict(), 1, 2, 4)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_transformers_computes_the_same_of_what_is_saved(tmp_path: Path, kind: str) -> None:
    """Patches of 14 pixels fit its PerceptionLM, whatever decoder of Llama's names; every word is free for texts."""
    from transformers import PerceptionLMForConditionalGeneration

    found = open_language(lang.language(tmp_path / "language", model_type=kind))
    model = _joined(found, replace(TOWER, patch_size=14, image_size=28)).eval()
    model.save_pretrained(tmp_path / "plm")
    theirs = PerceptionLMForConditionalGeneration.from_pretrained(tmp_path / "plm").eval()
    again = PLM.from_pretrained(tmp_path / "plm")
    image = found.image_token_id
    ids = torch.tensor([[5, *[image] * 4, image - 1, *range(20, 60)]])
    pixels = torch.randn(1, 1, 3, 28, 28)
    expected = model(ids, pixels)
    torch.testing.assert_close(theirs(input_ids=ids, pixel_values=pixels).logits, expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(again(ids, pixels), expected, rtol=1e-4, atol=1e-4)
    every = torch.arange(found.text["vocab_size"])
    assert torch.isfinite(again(every[every != image][None])).all()
    assert again.config.video_token_id is None


def test_a_fresh_projector_is_drawn_as_published(tmp_path: Path) -> None:
    model = _joined(open_language(lang.language(tmp_path / "language")))
    first = model.vision_projector.projector[0]
    assert float(first.weight.detach().std()) == pytest.approx(64**-0.5, rel=0.1)
    assert float(first.bias.detach().std()) > 0.05


def test_what_is_no_language_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no such folder"):
        open_language(tmp_path / "nothing")
    folder = lang.language(tmp_path / "language")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"there is no tokenizer\.json"):
        open_language(folder)
    with pytest.raises(CheckpointError, match="plain: .*no chat model that is known"):
        open_language(lang.language(tmp_path / "plain", ("<|endoftext|>", "<unused0>"), eos_token_id=0))
    (tmp_path / "t5").mkdir()
    (tmp_path / "t5" / "config.json").write_text('{"model_type": "t5"}')
    with pytest.raises(CheckpointError, match="t5: transformers finds no causal language model"):
        open_language(tmp_path / "t5")
