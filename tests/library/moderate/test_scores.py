"""Scores against the formulas that their docstring states, and against what real pictures show."""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import midsight
from midsight.errors import ConfigError, InputError, MediaError
from midsight.library.moderate import Category, Moderator, Policy
from midsight.library.moderate.policy import NEUTRAL
from midsight.library.moderate.scores import Scorer


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_prompts_are_weighed_as_stated(embedded: midsight.Perception, demo: Path) -> None:
    neutral = ("a room", "a dog", "a puppy")
    policy = Policy((Category("dogs", ("a dog", "a cat"), ("a toy",)),), neutral=neutral)
    pictures = embedded.embed_images(sorted(demo.glob("*.jpg")))
    names = ["a cat", "a toy", *neutral]
    texts = dict(zip(names, embedded.embed_texts(names), strict=True))
    mean = sum(texts[name] for name in neutral) / 3
    kept = []
    for name in neutral:
        likeness = []
        for prompt in ("a dog", "a cat"):
            a, b = texts[name] - mean, texts[prompt] - mean
            likeness.append(float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)))
        kept += [name] if max(likeness) < 0.8 else []
    assert "a dog" not in kept, "the prompt itself never stands against itself"
    assert "a room" in kept
    scale = float(embedded.model.logit_scale.exp())  # type: ignore[operator, union-attr]
    for picture, score in zip(pictures, Scorer(embedded, policy).scores(pictures)[:, 0], strict=True):
        best = max(float(picture @ texts[name]) for name in ("a dog", "a cat"))
        rest = max(float(picture @ texts[name]) for name in ("a toy", *kept))
        assert score == pytest.approx(sigmoid(scale * (best - rest)), abs=1e-5)


def test_examples_are_weighed_as_stated(embedded: midsight.Perception, demo: Path) -> None:
    policy = Policy((Category("cats", examples=(demo / "cat.jpg", demo / "rocket.jpg")),))
    files = sorted(demo.glob("*.jpg"))
    pictures = embedded.embed_images(files)
    scorer = Scorer(embedded, policy)
    scores = scorer.scores(pictures)[:, 0]
    for picture, score in zip(pictures, scores, strict=True):
        expected = []
        for example in embedded.embed_images([demo / "cat.jpg", demo / "rocket.jpg"]):
            unrelated = float(np.median([example @ other for other in pictures]))
            expected.append(sigmoid(10 * ((float(picture @ example) - unrelated) / (1 - unrelated) - 0.5)))
        assert score == pytest.approx(max(expected), abs=1e-5)
    by_name = dict(zip((path.stem for path in files), scores, strict=True))
    assert by_name["cat"] > 0.99 < by_name["rocket"]
    assert max(by_name["coffee"], by_name["motorcycle"]) < 0.05
    assert scorer.nearest(pictures[0], 0) == "example cat.jpg"
    with Image.open(demo / "cat.jpg") as cat:
        changed = [cat.crop((20, 30, cat.width - 40, cat.height - 10)), cat.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
        changed.append(cat.convert("L").resize((150, 150)))
        assert (scorer.scores(embedded.embed_images(changed)) > 0.9).all()


def test_the_larger_score_counts_and_is_named(embedded: midsight.Perception, demo: Path) -> None:
    both = Category("things", ("a motorcycle",), examples=(demo / "cat.jpg",))
    scorer = Scorer(embedded, Policy((both,)))
    pictures = embedded.embed_images([demo / "motorcycle.jpg", demo / "cat.jpg", demo / "coffee.jpg"])
    alone = [Scorer(embedded, Policy((one,))).scores(pictures)[:, 0]
             for one in (Category("a", both.prompts), Category("b", examples=both.examples))]  # fmt: skip
    np.testing.assert_allclose(scorer.scores(pictures)[:, 0], np.maximum(*alone))
    assert [scorer.nearest(row, 0) for row in pictures[:2]] == ["a motorcycle", "example cat.jpg"]


def test_a_policy_without_thresholds_of_its_own_is_sensible(embedded: midsight.Perception, demo: Path) -> None:
    prompts = {
        "cat": ("a cat",),
        "coffee": ("a drink", "coffee"),
        "motorcycle": ("a motorcycle",),
        "rocket": ("a rocket",),
    }
    moderator = Moderator(embedded, Policy(tuple(Category(name, texts) for name, texts in prompts.items())))
    for name in prompts:
        flagged = [one.category for one in moderator.verdict(demo / f"{name}.jpg").findings if one.verdict == "flag"]
        assert flagged == [name]


def test_what_cannot_be_scored(embedded: midsight.Perception, tmp_path: Path, dense_folder: Path, demo: Path) -> None:
    with pytest.raises(InputError, match="does not embed texts"):
        Scorer(midsight.load(dense_folder), Policy((Category("a", ("b",)),)))
    Scorer(
        midsight.load(dense_folder), Policy((Category("a", examples=(demo / "cat.jpg",)),))
    )  # examples need no texts
    with pytest.raises(ConfigError, match="category 'a': no negative or neutral text is left"):
        Scorer(embedded, Policy((Category("a", ("a dog",)),), neutral=()))
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"broken")
    with pytest.raises(MediaError, match=r"broken\.png"):
        Scorer(embedded, Policy((Category("a", examples=(broken,)),)))


def test_neutral_texts_are_many_and_short() -> None:
    assert len(set(NEUTRAL)) == len(NEUTRAL) >= 20
