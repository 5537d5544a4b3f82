"""Many answers in one pass: the same numbers as one pass each."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from midsight.library.documents import scoring
from midsight.plm.answer import Page
from tests.library.documents.makers import tiny_plm


@torch.inference_mode()
def test_one_pass_gives_what_a_pass_for_each_answer_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "_AT_ONCE", 3)  # logits in several parts
    model = tiny_plm(tmp_path, sees=False)
    prompt = [5, 9, 33, 70, 101]
    answers = [[7, 8, 9], [7, 8], [7, 12, 9, 4], [50], [7, 8, 9, 9], list(range(40, 40 + scoring.MAX_TOKENS + 5))]
    found = scoring.log_likelihoods(model, prompt, answers, end=3)
    for answer, value in zip(answers, found, strict=True):
        kept = answer[: scoring.MAX_TOKENS]
        wanted = [*kept, 3] if len(kept) == len(answer) else kept
        logits = model(torch.tensor([[*prompt, *wanted]]))[0].log_softmax(-1)
        expected = sum(float(logits[len(prompt) - 1 + i, token]) for i, token in enumerate(wanted))
        assert value == pytest.approx(expected, rel=1e-4)
    assert len({round(value, 3) for value in found}) == len(found)


def test_what_a_page_holds_of_a_prompt_is_not_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, page = tiny_plm(tmp_path, sees=False), Page([], [])
    first, second = [5, 9, 33, 70, 101, 12], [5, 9, 33, 70, 44, 8, 21]
    answers = [[7, 8, 9], [7, 12], [50]]
    given: list[int] = []
    real = scoring.step

    def step(language_model: nn.Module, given_: dict[str, Tensor], *rest: Any) -> Tensor:
        given.append(given_["inputs_embeds"].shape[1])
        return real(language_model, given_, *rest)

    monkeypatch.setattr(scoring, "step", step)
    for prompt in (first, second, second, first[:3]):
        expected = scoring.log_likelihoods(model, prompt, answers, end=3)
        assert scoring.log_likelihoods(model, prompt, answers, 3, page) == pytest.approx(expected, rel=1e-5)
        assert page.cached == prompt
    assert given[1::2] == [6, 3, 1, 1], "what is not held, and the last one always"
