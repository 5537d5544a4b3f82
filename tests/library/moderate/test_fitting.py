"""A policy calibrated by pictures, and the plot of it."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import midsight
from midsight.errors import InputError
from midsight.library.moderate import Calibration, Category, Moderator, Policy
from midsight.library.moderate.calibrate import Target
from midsight.library.moderate.fitting import fit_policy
from midsight.library.moderate.plot import plot_curves

RECALL, PRECISION = Target("recall", 1.0), Target("precision", 1.0)


@pytest.fixture
def labels(demo: Path) -> dict[Path, dict[str, bool]]:
    return {path: {"vehicles": path.stem in ("motorcycle", "rocket")} for path in sorted(demo.glob("*.[jm]p*"))}


def test_thresholds_part_the_labelled_files(
    embedded: midsight.Perception, policy: Policy, labels: dict[Path, dict[str, bool]]
) -> None:
    broken = {**labels, Path("missing.jpg"): {"vehicles": True}}
    done = fit_policy(embedded, replace(policy, calibration=Calibration("m", "other", 1)), broken, [RECALL])
    assert [error.split(":")[0] for error in done.failures] == ["missing.jpg"]
    assert done.policy.calibration == Calibration("embedded", embedded.identity, 5)
    assert [text.split(":")[0] for text in done.skipped] == ["temples", "cats"]
    assert done.policy.categories[1:] == policy.categories[1:]
    moderator = Moderator(embedded, done.policy)
    for path, known in labels.items():
        assert moderator.verdict(path).findings[0].verdict == ("flag" if known["vehicles"] else "pass")
    scores = {path.stem: moderator.verdict(path).findings[0].score for path in labels}
    top = max(score for name, score in scores.items() if name not in ("motorcycle", "rocket"))
    assert top < done.policy.categories[0].threshold < min(scores["motorcycle"], scores["rocket"])


def test_two_targets_make_a_band(embedded: midsight.Perception, demo: Path) -> None:
    """The scores of the labelled files are known, so that the two thresholds are, too."""
    policy = Policy((Category("round things", ("a cup of coffee", "a wheel")),), segment_seconds=9, frames=1)
    files = sorted(demo.glob("*.[jm]p*"))
    scores = [verdict.findings[0].score for verdict in Moderator(embedded, policy).verdicts(files)]
    order = np.argsort(scores)[::-1]
    truth = dict(zip(order.tolist(), (True, False, True, False, False), strict=True))
    labels = {path: {"round things": truth[n]} for n, path in enumerate(files)}
    category = fit_policy(embedded, policy, labels, [PRECISION, RECALL]).policy.categories[0]
    first, second, third, fourth, _ = (scores[n] for n in order)
    assert second < category.threshold <= first
    assert category.review is not None
    assert fourth < category.review <= third
    alone = fit_policy(embedded, policy, labels, [RECALL]).policy.categories[0]
    assert (alone.threshold, alone.review) == (category.review, None)


def test_nothing_to_fit(embedded: midsight.Perception, policy: Policy, demo: Path) -> None:
    with pytest.raises(InputError, match="no labelled file does not show it"):
        fit_policy(embedded, Policy(policy.categories[:1]), {demo / "cat.jpg": {"vehicles": True}}, [RECALL])


def test_the_plot(embedded: midsight.Perception, policy: Policy, labels: dict[Path, dict[str, bool]]) -> None:
    named = Policy((replace(policy.categories[0], name="$x_1$ <&>"), *policy.categories[1:]))
    known = {path: {"$x_1$ <&>": yes["vehicles"], "cats": path.stem == "cat"} for path, yes in labels.items()}
    fits = fit_policy(embedded, named, known, [PRECISION, RECALL]).fits
    assert len(fits) == 4
    one, four = (np.asarray(Image.open(io.BytesIO(plot_curves(some))).convert("RGB")) for some in (fits[:1], fits))
    assert four.shape[0] > 1.7 * one.shape[0]
    assert four.shape[1] > 2.5 * one.shape[1]
    for colour in ((0x2F, 0x6F, 0x6A), (0xB3, 0x47, 0x2D)):  # the curve, the expected point
        assert (one == colour).all(axis=2).sum() > 100
