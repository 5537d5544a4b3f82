"""A sweep over layers on a CUDA device: the figures of the CPU."""

from pathlib import Path

import pytest
import torch

import midsight
from midsight.evaluate.layer_sweep import sweep_layers
from midsight.evaluate.layer_types import SweepConfig
from tests.evaluate import layered

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no CUDA device here: what only a GPU can show is not tested on this machine"
)


@pytest.mark.parametrize("task", ["knn", "linear", "attention", "retrieval", "segmentation", "depth", "tracking"])
def test_figures_are_those_of_the_cpu(task: str, tmp_path: Path) -> None:
    dense = {"segmentation": "masks", "depth": "depth"}
    if task == "tracking":
        data = layered.davis(tmp_path / "data")
    elif task in dense:
        data = layered.dense_folder(tmp_path / "data", dense[task], 20)
    else:
        data = layered.class_folder(tmp_path / "data", 20)
    tower, config = layered.save_tower(tmp_path / "tower", cls_token=True), SweepConfig(task, long_side=96)
    here, there = (sweep_layers(midsight.load(tower, device=device), data, config) for device in ("cpu", "cuda"))
    for a, b in zip(here.figures[: layered.LAST], there.figures, strict=False):  # the last block is noise
        assert a.value == pytest.approx(b.value, abs=0.05)
