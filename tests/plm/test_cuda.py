"""What a GPU computes, beside the CPU: logits, answers one by one and in a batch."""

import pytest
import torch

from midsight.plm.answer import AnswerConfig, Answerer, Ask
from tests.plm import tiny

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


@pytest.fixture(scope="module")
def on_both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Answerer, Answerer]:
    """The same weights on the CPU and on the GPU."""
    folder = tmp_path_factory.mktemp("plm")
    on_cpu, on_gpu = (tiny.plm(folder, seed=2) for _ in range(2))
    config = AnswerConfig(max_new_tokens=16)
    return Answerer(on_cpu, config), Answerer(on_gpu.cuda(), config)


@torch.inference_mode()
def test_logits_are_those_of_the_cpu(on_both: tuple[Answerer, Answerer]) -> None:
    on_cpu, on_gpu = (answerer.model for answerer in on_both)
    visual = 2 * on_cpu.config.tokens_per_tile
    ids = torch.tensor([[5, 6, *[on_cpu.config.image_token_id] * visual, 7, 8, 9]])
    side = on_cpu.config.tile
    pixels = torch.rand(1, 2, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1
    expected, found = on_cpu(ids, pixels), on_gpu(ids.cuda(), pixels.cuda())
    assert expected.std() > 0.1
    assert found.is_cuda
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-3, atol=1e-3)


def test_answers_are_those_of_the_cpu(on_both: tuple[Answerer, Answerer]) -> None:
    asks = [Ask(question) for question in ("What is the total?", "Who signed it, and when?", "12 345,67 what?")]
    on_cpu, on_gpu = (answerer.answer_batch(asks) for answerer in on_both)
    assert [answer.text for answer in on_gpu] == [answer.text for answer in on_cpu]
    assert [on_both[1].answer(ask.question).text for ask in asks] == [answer.text for answer in on_cpu]
