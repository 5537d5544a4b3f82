"""The lean pass over a Llama's modules, beside transformers' own forward pass and cache."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache

from midsight.plm import decode, lean
from midsight.plm.model import build_language_model
from tests import peers
from tests.plm import tiny

VOCABULARY = 160
ROPES: dict[str, dict[str, Any]] = {"llama3": tiny.LLAMA3, "default": dict(rope_type="default", rope_theta=10000.0)}


def llama(rope: str = "llama3", **changes: Any) -> Any:
    text = dict(tiny.LANGUAGE, vocab_size=VOCABULARY, rope_parameters=ROPES[rope], tie_word_embeddings=False)
    return peers.randomize(build_language_model({**text, **changes}).eval())


def prompt(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, 64, generator=torch.Generator().manual_seed(seed))


def same(found: Tensor, expected: Tensor) -> None:
    assert expected.std() > 0.3
    assert (found - expected).norm() / expected.norm() < 5e-6


@torch.inference_mode()
@pytest.mark.parametrize("rope", ROPES)
@pytest.mark.parametrize("changes", [{}, {"attention_bias": True, "mlp_bias": True}, {"num_key_value_heads": 4}])
def test_steps_agree_with_transformers(rope: str, changes: dict[str, Any]) -> None:
    """A prompt, a prompt behind it, and single tokens, through memory that grows twice."""
    model = llama(rope, **changes)
    ours, theirs = lean.KVCache(), DynamicCache()
    for number, length in enumerate((250, 5, 1, 1, 260, 1)):
        embeds = prompt(2, length, seed=number)
        expected = model(inputs_embeds=embeds, cache=theirs, use_cache=True).logits[:, -1]
        same(lean.step(model, embeds, ours), expected)
    assert ours.length == theirs.get_seq_length() == 518


@torch.inference_mode()
def test_padding_on_the_left_is_not_seen() -> None:
    model, cache = llama(), lean.KVCache()
    mask = torch.tensor([[0, 0, 0, 1, 1, 1, 1], [1] * 7])
    embeds, more = prompt(2, 7), prompt(2, 1, seed=2)
    first = lean.step(model, embeds, cache, mask)
    second = lean.step(model, more, cache, torch.cat((mask, mask.new_ones(2, 1)), 1))
    for row, start in ((0, 3), (1, 0)):
        alone = torch.cat((embeds[row, start:], more[row]))[None]
        expected = model(inputs_embeds=alone).logits[0]
        same(first[row], expected[-2])
        same(second[row], expected[-1])


@torch.inference_mode()
def test_a_rewound_cache_forgets() -> None:
    model, cache = llama(), lean.KVCache()
    start, question, other = prompt(1, 40), prompt(1, 3, seed=2), prompt(1, 9, seed=3)
    lean.step(model, start, cache)
    expected = lean.step(model, question, cache)
    decode.rewind(cache, 40)
    lean.step(model, other, cache)
    decode.rewind(cache, 40)
    assert torch.equal(lean.step(model, question, cache), expected)
    decode.rewind(cache, 99)  # more than there is: nothing to forget
    assert cache.length == 43


@torch.inference_mode()
def test_the_cache_holds_what_it_should() -> None:
    """Two tensors for each layer, in whole blocks."""
    model, cache = llama(), lean.KVCache()
    lean.step(model, prompt(1, lean.BLOCK + 1), cache)
    assert cache.nbytes == 3 * 2 * 2 * 16 * 4 * 2 * lean.BLOCK  # layers, keys and values, heads, dim, bytes, blocks


@torch.inference_mode()
def test_adapters_take_part() -> None:
    """A projection that peft has wrapped runs as peft means it to."""
    from peft import LoraConfig, inject_adapter_in_model

    model = llama()
    embeds = prompt(1, 6)
    without = lean.step(model, embeds, lean.KVCache())
    model = inject_adapter_in_model(LoraConfig(target_modules=["q_proj", "up_proj"], init_lora_weights=False), model)
    expected = model(inputs_embeds=embeds).logits[:, -1]
    found = lean.step(model, embeds, lean.KVCache())
    same(found, expected)
    assert (found - without).abs().max() > 0.05


@torch.inference_mode()
def test_bfloat16_is_as_good_as_transformers_own() -> None:
    model, embeds = llama(), prompt(1, 60)
    exact = model(inputs_embeds=embeds).logits[:, -1]
    model.bfloat16()
    found = lean.step(model, embeds.bfloat16(), lean.KVCache())
    theirs = model(inputs_embeds=embeds.bfloat16()).logits[:, -1]
    assert found.dtype == torch.bfloat16
    error, peer = ((some.float() - exact).norm() / exact.norm() for some in (found, theirs))
    assert error < max(1.3 * peer, 0.01)


@torch.inference_mode()
def test_other_language_models_run_through_transformers(tmp_path: Path) -> None:
    text = dict(tiny.LANGUAGE, vocab_size=VOCABULARY, rope_parameters=ROPES["default"], tie_word_embeddings=False)
    model = peers.randomize(build_language_model({**text, "model_type": "qwen2"}).eval())
    assert not lean.supports(model)
    assert isinstance(decode.new_cache(model), DynamicCache)
    embeds, mask = prompt(2, 7), torch.tensor([[0, 0, 1, 1, 1, 1, 1], [1] * 7])
    steps = list(decode.decode(model, embeds, stop=[VOCABULARY], max_new_tokens=6, attention_mask=mask))
    found = torch.stack(steps, 1)
    for row, start in ((0, 2), (1, 0)):
        expected = model.generate(inputs_embeds=embeds[row, start:][None], max_new_tokens=6, do_sample=False)
        assert found[row].tolist() == expected[0].tolist()
    cache = decode.new_cache(model)
    decode.step(model, {"inputs_embeds": embeds}, cache, None)
    decode.rewind(cache, 4)
    assert cache.get_seq_length() == 4


def test_a_llama_whose_angles_hang_on_the_length_is_left_to_transformers() -> None:
    rope = dict(rope_type="dynamic", rope_theta=10000.0, factor=2.0)
    assert lean.supports(llama())
    assert not lean.supports(llama(rope_parameters=rope))
