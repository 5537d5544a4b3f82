"""Choosing ids one by one: rules of sampling, ends, batches."""

from typing import Any

import pytest
import torch
from torch import Tensor

from midsight.errors import ConfigError
from midsight.plm import Sampling
from midsight.plm.decode import decode
from midsight.plm.model import build_language_model
from tests import peers
from tests.plm import tiny

VOCABULARY, DRAWS = 60, 4000
RULES = {
    "temperature": Sampling(temperature=1.5),
    "top_k": Sampling(temperature=1.0, top_k=5),
    "top_p": Sampling(temperature=0.8, top_p=0.6),
    "top_p_goes_before_top_k": Sampling(temperature=2.0, top_p=0.7, top_k=1),
}


@pytest.fixture(scope="module")
def llama() -> Any:
    text = dict(tiny.LANGUAGE, vocab_size=VOCABULARY, num_hidden_layers=1, tie_word_embeddings=False)
    model: Any = peers.randomize(build_language_model(text).eval())
    return model.requires_grad_(False)


@pytest.fixture(scope="module")
def prompt() -> Tensor:
    return torch.randn(1, 5, 64, generator=torch.Generator().manual_seed(0))


def take(llama: Any, embeds: Tensor, count: int, **options: Any) -> Tensor:
    with torch.inference_mode():
        return torch.stack(list(decode(llama, embeds, max_new_tokens=count, **{"stop": [VOCABULARY], **options})), 1)


def frequencies(ids: Tensor) -> Tensor:
    return torch.bincount(ids, minlength=VOCABULARY) / len(ids)


@torch.inference_mode()
@pytest.mark.parametrize("rule", RULES)
def test_draws_have_the_distribution_of_transformers(llama: Any, prompt: Tensor, rule: str) -> None:
    """4,000 first tokens of ours and of `generate`, and the probabilities worked out by hand."""
    sampling = RULES[rule]
    many = prompt.expand(DRAWS, -1, -1)
    found = frequencies(take(llama, many, 1, sampling=sampling)[:, 0])
    torch.manual_seed(5)
    given = dict(temperature=sampling.temperature, top_p=sampling.top_p or 1.0, do_sample=True, max_new_tokens=1)
    theirs = llama.generate(inputs_embeds=many, top_k=0 if sampling.top_p else sampling.top_k or 0, **given)
    expected = by_hand(llama(inputs_embeds=prompt).logits[0, -1].double(), sampling)
    assert expected.max() < 0.9
    assert not found[expected == 0].any()
    for some in (found, frequencies(theirs[:, 0])):  # half the summed difference; chance alone gives below 0.05
        assert (some - expected).abs().sum() / 2 < 0.06


def by_hand(logits: Tensor, sampling: Sampling) -> Tensor:
    chances = (logits / sampling.temperature).softmax(0)
    order = chances.argsort(descending=True)
    if sampling.top_p is not None:
        before = chances[order].cumsum(0) - chances[order]  # kept while what came before is less than top_p
        chances[order[before >= sampling.top_p]] = 0
    elif sampling.top_k is not None:
        chances[order[sampling.top_k :]] = 0
    return chances / chances.sum()


def test_a_seed_gives_the_same_draws_again(llama: Any, prompt: Tensor) -> None:
    first, again, other = (
        take(llama, prompt, 20, sampling=Sampling(temperature=1.5, seed=seed)).tolist() for seed in (1, 1, 2)
    )
    assert first == again != other


def test_without_a_temperature_the_most_likely_id_is_taken(llama: Any, prompt: Tensor) -> None:
    with torch.inference_mode():
        expected = llama.generate(inputs_embeds=prompt, do_sample=False, max_new_tokens=12)
    assert len(set(expected[0].tolist())) > 3
    assert take(llama, prompt, 12).tolist() == expected.tolist()
    assert take(llama, prompt, 12, sampling=Sampling(top_k=1, seed=9)).tolist() == expected.tolist()


def test_ends(llama: Any) -> None:
    """A row that has ended yields the first stop id; the last row's end ends all."""
    prompts = torch.randn(2, 5, 64, generator=torch.Generator().manual_seed(3))
    free = take(llama, prompts, 20, sampling=Sampling(temperature=2.0)).tolist()
    only_in = [[i for i in row if i not in other] for row, other in (free, free[::-1])]
    stops = [only_in[0][0], only_in[1][-1]]
    ends = [row.index(stop) + 1 for row, stop in zip(free, stops, strict=True)]
    assert ends[0] + 1 < ends[1]
    found = take(llama, prompts, 20, stop=stops, sampling=Sampling(temperature=2.0)).tolist()
    assert found == [[*free[0][: ends[0]], *[stops[0]] * (ends[1] - ends[0])], free[1][: ends[1]]]


@pytest.mark.parametrize("wrong", [{"temperature": -1}, {"top_p": 0.0}, {"top_p": 1.1}, {"top_k": 0}])
def test_rules_that_cannot_be(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Sampling(**wrong)  # type: ignore[arg-type]
