"""What is written of a sweep."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from midsight.errors import OutputError
from midsight.evaluate.layer_report import picture, write_report
from midsight.evaluate.layer_types import LayerFigure, Sweep


def sweep(values: list[float], higher: bool = True) -> Sweep:
    figures = tuple(LayerFigure(k, value, value - 0.05, value + 0.05) for k, value in enumerate(values))
    return Sweep("knn", "tiny", "accuracy", higher, len(values), figures, 10, 5, "pictures", {})


def test_the_best_layer_is_the_first_of_equal_ones() -> None:
    assert sweep([0.1, 0.9, 0.9]).best.layer_idx == 1
    assert sweep([0.3, 0.2, 0.2], higher=False).best.layer_idx == 1
    assert sweep([0.5] * 50).name(46) == "layer 47 of 50 (layer_idx 46)"


def test_both_files_are_written(tmp_path: Path) -> None:
    record, plot = write_report(tmp_path / "new/out", sweep([0.1, 0.9, 0.5]), {"seed": 3})
    found = json.loads(record.read_text())
    assert (found["best"]["layer"], found["seed"], len(found["layers"])) == (2, 3, 3)
    with Image.open(plot) as image:
        assert (image.format, image.size) == ("PNG", (720, 400))
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be made"):
        write_report(tmp_path / "file", sweep([0.1]))


@pytest.mark.parametrize("values", [[0.5], [1.0, 1.0], [0.2, 0.9, 0.4], list(np.linspace(0, 1, 50))])
def test_the_plot_marks_the_best_layer(values: list[float]) -> None:
    pixels = np.asarray(picture(sweep(values))).astype(int)
    red = (pixels[80:340, :, 0] > 150) & (pixels[80:340, :, 1] < 110)
    column = int(np.median(np.nonzero(red)[1]))
    best = int(np.argmax(values))
    expected = 80 + best / max(len(values) - 1, 1) * 610 if len(values) > 1 else 80 + 305
    assert column == pytest.approx(expected, abs=3)
