"""Many answers in one pass: the same numbers as one pass each."""

from pathlib import Path

import pytest
import torch

from midsight.library.documents import scoring
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
