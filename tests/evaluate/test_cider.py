"""CIDEr-D against coco-caption's own code, and its tokens."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocoevalcap.cider.cider_scorer import CiderScorer

from midsight.errors import InputError
from midsight.evaluate.metrics.cider import caption_tokens, cider

CAPTIONS = ["a cat sits on a mat", "two dogs run along the beach", "a man rides a red motorcycle down the road"]
REFERENCES = [
    ["the cat sat on the mat", "a cat is sitting on a mat", "cat on a mat"],
    ["dogs running on a beach", "two dogs run along the beach at noon"],
    ["a man rides a motorcycle", "a person on a red motorcycle on the road", "man on a road", "a red bike"],
]


def theirs(captions: list[str], references: list[list[str]]) -> tuple[float, np.ndarray]:
    """coco-caption's scores of texts that are tokens already."""
    scorer = CiderScorer(n=4, sigma=6.0)
    for caption, texts in zip(captions, references, strict=True):
        scorer += (caption, texts)
    return scorer.compute_score()


def test_scores_agree_with_coco_caption() -> None:
    mean, scores = theirs(CAPTIONS, REFERENCES)
    assert scores.min() > 0.1
    found = cider(CAPTIONS, REFERENCES)
    np.testing.assert_allclose(found, scores, rtol=1e-12)
    assert found.mean() == pytest.approx(mean)


TEXTS = st.lists(st.sampled_from(["a", "red", "cat", "dog", "runs", "on", "grass"]), max_size=9).map(" ".join)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(TEXTS, st.lists(TEXTS, min_size=1, max_size=4)), min_size=2, max_size=5))
def test_scores_agree_on_any_texts(pictures: list[tuple[str, list[str]]]) -> None:
    captions, references = [caption for caption, _ in pictures], [texts for _, texts in pictures]
    if not any(text for texts in references for text in texts):
        return  # coco-caption cannot count no words
    np.testing.assert_allclose(cider(captions, references), theirs(captions, references)[1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [  # what the Stanford tokenizer 3.4.1 gives, as coco-caption calls it, without the signs that this leaves out
        (
            "A man's dog doesn't like the red-haired woman's cat.",
            "a man 's dog does n't like the red-haired woman 's cat",
        ),
        (
            "Two people (one in black & white) are eating at a table -- outside!",
            "two people -lrb- one in black & white -rrb- are eating at a table outside",
        ),
        (
            'A black-and-white photo of a bus; it says "STOP" on it.',
            "a black-and-white photo of a bus it says stop on it",
        ),
        (
            "a clock reading 10:30 a.m. in the U.S. with 1,000 people.",
            "a clock reading 10:30 a.m. in the u.s. with 1,000 people",
        ),
        (
            "I can't, won't, they're, we've, he'll, I'm, it's, she'd, cannot, gonna",
            "i ca n't wo n't they 're we 've he 'll i 'm it 's she 'd can not gon na",
        ),
        (
            "A 2-story building/house with 50% off, $3.50 and #1 sign...",
            "a 2-story building/house with 50 % off $ 3.50 and # 1 sign",
        ),
        ("The dogs' toys, 'quoted' words `tick` and e.g. this.", "the dogs toys quoted words tick and e.g. this"),
        ("a man and/or woman @ the beach w/ umbrella", "a man and/or woman @ the beach w / umbrella"),
        ("Mr. Smith at 5 o'clock in St. Louis", "mr. smith at 5 o'clock in st. louis"),
        ("T-shirt [sic] {brace} a_b x=y 3/4 cup", "t-shirt -lsb- sic -rsb- -lcb- brace -rcb- a_b x = y 3/4 cup"),
        ("A cat – sitting—on top… of it", "a cat sitting on top of it"),
        ("what's this? a TV's remote,and a cup.of tea", "what 's this a tv 's remote and a cup.of tea"),
    ],
)
def test_tokens_are_those_of_coco_captions_tokenizer(text: str, tokens: str) -> None:
    assert caption_tokens(text) == tokens.split()


def test_captions_are_compared_as_tokens() -> None:
    loud = [caption.upper() + "." for caption in CAPTIONS]
    np.testing.assert_array_equal(cider(loud, REFERENCES), cider(CAPTIONS, REFERENCES))
    assert cider(["", *CAPTIONS[1:]], REFERENCES)[0] == 0


@pytest.mark.parametrize(("captions", "references"), [([], []), (["a"], []), (["a"], [[]])])
def test_each_caption_needs_references(captions: list[str], references: list[list[str]]) -> None:
    with pytest.raises(InputError, match="expected references"):
        cider(captions, references)
