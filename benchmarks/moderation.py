"""Does a policy find what it names, before and after calibration? Writes MODERATION.md.

Run: python -m benchmarks.moderation --packages runs/embedded/data

The photographs are `midsight.data.packaged.everyday`: animals, food, tools, vehicles, buildings and other things, with
names that people gave them. They are for measuring; nothing of the embedded model was trained on them. The fixed parts
of the score (the neutral texts, and which of them are left out) were chosen with 50 of them, which take no part here.
Of the others 50 are drawn for calibration and the rest judge, in 200 draws.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

import midsight
from benchmarks import machine
from benchmarks.report import table
from midsight.data.packaged import everyday
from midsight.errors import InputError
from midsight.library.moderate import Category, Policy
from midsight.library.moderate.calibrate import Share, Target, fit, shares
from midsight.library.moderate.scores import Scorer

OUT = Path(__file__).parent / "MODERATION.md"
LABELLED, DRAWS, EXAMPLES = 50, 200, 5
TARGET = Target("recall", 0.9)
# for each category: prompts, and the kinds of `everyday.csv` that it means
CATEGORIES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "animals": (
        ("an animal", "a mammal", "a bird", "a fish", "an insect", "a reptile"),
        ("mammal", "bird", "fish", "insect", "reptile", "amphibian", "crustacean", "mollusk"),
    ),
    "food": (("fruit", "vegetables", "nuts", "mushrooms"), ("fruit", "vegetable", "nut", "mushroom")),
    "tools": (("a tool", "a hand tool", "a garden tool"), ("tool",)),
    "buildings": (("a building", "a house", "a church", "a castle"), ("building",)),
    "vehicles": (("a vehicle", "a car", "a truck", "a boat", "an aircraft"), ("vehicle",)),
}

HEAD = """# Moderation

Written by `python -m benchmarks.moderation --packages DATA`; do not edit. {about}
"""

Scores = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Draw:
    """One draw of labelled files, and what its threshold does on the others."""

    expected: Share  # precision, as calibration tells it
    precision: Share
    recall: Share

    @property
    def held(self) -> bool:
        """Whether the precision on the others lies in the interval that calibration gave."""
        low, high = self.expected.interval
        return bool(low <= self.precision.value <= high)


def at_random(truth: Bools, seed: int) -> Numbers:
    """Which files are labelled: any 50."""
    return np.random.default_rng(seed).permutation(len(truth))[:LABELLED]


def half_and_half(truth: Bools, seed: int) -> Numbers:
    """Which files are labelled: 25 that show the category, at most half of what there is, and 25 that do not."""
    order = np.random.default_rng(seed).permutation(len(truth))
    yes, no = order[truth[order]], order[~truth[order]]
    return np.concatenate((yes[: min(LABELLED, len(yes)) // 2], no[: LABELLED // 2]))


def draw(scores: Scores, truth: Bools, labelled: Numbers) -> Draw | None:
    """Calibrates with the labelled files and judges with the rest; None where they hold nothing of the category."""
    rest = np.setdiff1d(np.arange(len(scores)), labelled)
    try:
        found = fit("", scores[labelled], truth[labelled], TARGET)
    except InputError:
        return None
    assert found.threshold is not None
    precision, recall = shares(scores[rest] >= found.threshold, truth[rest])
    return Draw(found.new_precision, precision, recall)


def row(name: str, scores: Scores, truth: Bools) -> dict[str, str]:
    """A line of the first table."""
    precision, recall = shares(scores >= 0.5, truth)
    draws = all_draws(scores, truth, at_random)
    return {
        "Category": name,
        "Files": str(int(truth.sum())),
        "Precision, not calibrated": told(precision),
        "Recall, not calibrated": told(recall),
        f"Precision, {TARGET} wanted": spread([one.precision.value for one in draws]),
        "Recall reached": spread([one.recall.value for one in draws]),
        "Interval held the precision": f"{np.mean([one.held for one in draws]):.0%}",
    }


def balanced_row(name: str, scores: Scores, truth: Bools) -> dict[str, str]:
    """A line of the second table."""
    draws = all_draws(scores, truth, half_and_half)
    return {
        "Category": name,
        "Labelled files that show it": str(int(truth[half_and_half(truth, 0)].sum())),
        f"Precision, {TARGET} wanted": spread([one.precision.value for one in draws]),
        "Recall reached": spread([one.recall.value for one in draws]),
    }


def all_draws(scores: Scores, truth: Bools, choose: Callable[[Bools, int], Numbers]) -> list[Draw]:
    found = (draw(scores, truth, choose(truth, seed)) for seed in range(DRAWS))
    return [one for one in found if one is not None]


def told(share: Share) -> str:
    low, high = share.interval
    return f"{share.value:.2f} ({low:.2f}-{high:.2f})"


def spread(values: Sequence[float]) -> str:
    """The median with the 10th and 90th percentile."""
    low, middle, high = np.nanpercentile(values, (10, 50, 90))
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def by_examples(
    model: midsight.Perception, name: str, paths: Sequence[Path], rows: Scores, truth: Bools
) -> dict[str, str]:
    """A line of the third table: prompts, a few examples, and both, judged by all files that are no examples."""
    prompts = CATEGORIES[name][0]
    chosen = np.random.default_rng(0).permutation(np.flatnonzero(truth))[:EXAMPLES]
    examples = tuple(paths[n] for n in chosen)
    others = np.setdiff1d(np.arange(len(paths)), chosen)
    found = {"Category": name}
    for title, category in (
        ("prompts", Category(name, prompts)),
        (f"{EXAMPLES} examples", Category(name, examples=examples)),
        ("both", Category(name, prompts, examples=examples)),
    ):
        scores = Scorer(model, Policy((category,))).scores(rows)[:, 0]
        precision, recall = shares(scores[others] >= 0.5, truth[others])
        found |= {f"Precision, {title}": told(precision), f"Recall, {title}": told(recall)}
    return found


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--packages", type=Path, required=True, help="work folder of the packages; fetched where missing"
    )
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    files = everyday(arguments.packages)
    kept = sorted(np.random.default_rng(0).permutation(len(files))[LABELLED:].tolist())
    files = [files[n] for n in kept]
    model = midsight.load(device="cpu")
    paths = [one.path for one in files]
    rows = model.embed_images(paths)
    truth = {name: np.array([one.kind in kinds for one in files]) for name, (_, kinds) in CATEGORIES.items()}
    policy = Policy(tuple(Category(name, prompts) for name, (prompts, _) in CATEGORIES.items()))
    scores = Scorer(model, policy).scores(rows)
    first = [row(name, scores[:, n], truth[name]) for n, name in enumerate(CATEGORIES)]
    balanced = [balanced_row(name, scores[:, n], truth[name]) for n, name in enumerate(CATEGORIES)]
    second = [by_examples(model, name, paths, rows, truth[name]) for name in CATEGORIES]
    about = (
        f"The embedded model, {len(files)} everyday photographs that nothing was trained on or chosen with, at commit "
        f"{machine.commit()}."
    )
    text = "\n".join(
        (
            HEAD.format(about=about), "## Before and after calibration\n", table(first) + "\n",
            f"Not calibrated: threshold 0.5, all {len(files)} files, 95 % intervals by Wilson's method. Calibrated: a "
            f"random {LABELLED} of the files for {TARGET}, the other {len(files) - LABELLED} judge; the median of "
            f"{DRAWS} draws with the 10th and 90th percentile. The last column: in how many draws the precision of the "
            "others lay in the 95 % interval that `calibrate` printed.\n",
            "## Labels of both kinds\n",
            table(balanced) + "\n",
            f"The same, with {LABELLED // 2} labelled files that show the category (half of what there is, where that "
            f"is less) and {LABELLED // 2} that do not. The others, which judge, are of another mix, so the precision "
            "that `calibrate` prints is not theirs.\n",
            "## Examples\n", table(second) + "\n",
            f"Threshold 0.5, {EXAMPLES} random pictures of the category as examples, judged by all files that are not "
            "examples. Examples find what looks like them; they do not stand for a broad category by themselves.",
        )
    )  # fmt: skip
    arguments.out.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
