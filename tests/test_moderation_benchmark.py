"""What the moderation benchmark counts, on made scores."""

import numpy as np

from benchmarks import moderation
from midsight.library.moderate.calibrate import Share


def test_a_draw_judges_with_the_files_that_chose_nothing() -> None:
    truth = np.arange(200) % 4 == 0
    scores = np.where(truth, 0.9, 0.1) + np.arange(200) * 1e-4
    found = moderation.draw(scores, truth, moderation.at_random(truth, 3))
    assert found is not None
    rest = np.setdiff1d(np.arange(200), np.random.default_rng(3).permutation(200)[:50])
    assert found.precision == Share(found.precision.hits, found.precision.hits), "nothing wrong is flagged"
    assert found.recall.total == truth[rest].sum()
    assert found.recall.value > 0.8
    assert found.held
    assert moderation.draw(scores, np.zeros(200, bool), np.arange(50)) is None


def test_a_row_tells_what_it_counted() -> None:
    truth = np.arange(200) % 4 == 0
    scores = np.where(truth, 0.9, 0.1)
    scores[:8] = 0.6
    found = moderation.row("things", scores, truth)
    assert found["Files"] == "50"
    assert found["Precision, not calibrated"].startswith(f"{50 / 56:.2f} (")
    assert found["Recall, not calibrated"].startswith("1.00 (")
    assert set(moderation.CATEGORIES) == {"animals", "food", "tools", "buildings", "vehicles"}


def test_half_of_the_labels_show_the_category() -> None:
    many, few = np.arange(200) % 2 == 0, np.arange(200) < 14
    assert moderation.half_and_half(many, 0).size == 50
    assert many[moderation.half_and_half(many, 0)].sum() == 25
    assert few[moderation.half_and_half(few, 0)].sum() == 7
    assert (moderation.half_and_half(many, 0) != moderation.half_and_half(many, 1)).any()
