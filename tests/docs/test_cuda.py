"""The published getting-started example as the README shows it, `.cuda()` and autocast included."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.docs import blocks, sandbox


@pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no CUDA device here: the example runs without `.cuda()` on this machine"
)
def test_the_published_example_runs_on_a_gpu(docs_folder: Path) -> None:
    (block,) = [block for block in blocks.read_blocks(sandbox.ROOT / "README.md") if block.special == "without CUDA"]
    names: dict[str, Any] = {"__name__": "__main__"}
    printed = blocks.run_python(block, names)
    assert ".cuda()" in block.text
    assert names["model"].logit_scale.is_cuda
    assert names["image_features"].is_cuda
    probabilities = re.search(r"Label probs: tensor\(\[\[([^\]]+)\]\]", printed)
    assert probabilities is not None, printed
    assert sum(map(float, probabilities[1].split(","))) == pytest.approx(1, abs=0.01)
    model, image, text = names["model"].cpu(), names["image"].cpu(), names["text"].cpu()
    with torch.no_grad():
        for found, expected in zip(
            (names["image_features"], names["text_features"]), model(image, text)[:2], strict=True
        ):
            assert torch.cosine_similarity(found.float().cpu(), expected).min() > 0.999
