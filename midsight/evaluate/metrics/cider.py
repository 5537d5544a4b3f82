"""CIDEr-D of captions: n-grams that people share, weighted by how few pictures they fit.

Source: Vedantam et al. 2015, and what coco-caption computes: document frequency over the references, n-grams of 1 to 4
words, sigma 6, times 10.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from midsight.errors import InputError

Gram = tuple[str, ...]
NGRAMS = 4
SIGMA = 6.0  # of the penalty for another length, words
SCALE = 10.0
# signs that coco-caption leaves out; brackets stay as tokens there, for its list spells them in capitals
_LEFT_OUT = frozenset("'\"`.?!,:;-–—…“”‘’")
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_SPLIT = {"cannot": "can not", "gonna": "gon na", "gotta": "got ta", "wanna": "wan na", "gimme": "gim me"}
_JOINED = re.compile(r"\b(?:" + "|".join(_SPLIT) + r")\b")
_TOKEN = re.compile(
    r"(?:[^\W\d_]\.){2,}"  # u.s., a.m.
    r"|(?:mr|mrs|ms|dr|st|jr|sr|vs|etc)\.(?=\s|$)"
    r"|o'clock\b"
    r"|\w+?(?=n't\b)|n't\b|'(?:s|m|d|re|ve|ll)\b"  # does n't, it 's
    r"|\d+(?:[.,:]\d+)+"  # 3.50, 1,000, 10:30
    r"|\w+(?:[-./]\w+)*"  # red-haired, and/or
    r"|\S"
)


def caption_tokens(text: str) -> list[str]:
    """Words in lower case without punctuation, contractions apart, close to what coco-caption's Java tokenizer gives.

    It knows more abbreviations; a caption in a hundred may differ by a token.
    """
    text = _JOINED.sub(lambda match: _SPLIT[match.group()], text.lower().replace("’", "'"))
    return [_BRACKETS.get(token, token) for token in _TOKEN.findall(text) if token not in _LEFT_OUT]


def cider(captions: Sequence[str], references: Sequence[Sequence[str]]) -> npt.NDArray[np.float64]:
    """CIDEr-D of each caption, float64 (N,); the mean is the figure, usually given times 100.

    Args:
        captions: one for each picture.
        references: what people wrote of each picture. Weights come from all of them, so a few pictures alone, or one,
            for which all scores are 0, say nothing.

    Raises:
        InputError: no pictures, another number of references, or a picture without any.
    """
    if not captions or len(captions) != len(references) or not all(references):
        raise InputError(f"expected references for each of {len(captions)} captions, got {len(references)}")
    cooked = [[_grams(caption_tokens(text)) for text in texts] for texts in references]
    frequency = Counter(gram for counts in cooked for gram in {gram for text in counts for gram in text})
    weights = _Weights(frequency, math.log(len(captions)))
    scores = [
        _score(weights.vector(_grams(caption_tokens(caption))), [weights.vector(counts) for counts in own])
        for caption, own in zip(captions, cooked, strict=True)
    ]
    return np.array(scores)


@dataclass(frozen=True)
class _Vector:
    """A text's n-grams by weight, for each n."""

    weights: tuple[dict[Gram, float], ...]
    norms: tuple[float, ...]
    length: int  # in pairs of words, as published


@dataclass(frozen=True)
class _Weights:
    frequency: Counter[Gram]  # in how many pictures' references an n-gram stands
    log_pictures: float

    def vector(self, counts: Counter[Gram]) -> _Vector:
        weights: tuple[dict[Gram, float], ...] = tuple({} for _ in range(NGRAMS))
        for gram, count in counts.items():
            rarity = self.log_pictures - math.log(max(1, self.frequency[gram]))
            weights[len(gram) - 1][gram] = count * rarity
        norms = tuple(math.sqrt(sum(value * value for value in some.values())) for some in weights)
        return _Vector(weights, norms, sum(count for gram, count in counts.items() if len(gram) == 2))


def _grams(words: Sequence[str]) -> Counter[Gram]:
    return Counter(tuple(words[start : start + n]) for n in range(1, NGRAMS + 1) for start in range(len(words) - n + 1))


def _score(caption: _Vector, references: Sequence[_Vector]) -> float:
    return SCALE * sum(_similarity(caption, reference) for reference in references) / len(references)


def _similarity(caption: _Vector, reference: _Vector) -> float:
    """Mean over n of the clipped cosine, times the penalty for another length."""
    total = 0.0
    for ours, theirs, a, b in zip(caption.weights, reference.weights, caption.norms, reference.norms, strict=True):
        if a > 0 and b > 0:
            total += sum(min(value, theirs[gram]) * theirs[gram] for gram, value in ours.items() if gram in theirs) / (
                a * b
            )
    penalty = math.exp(-((caption.length - reference.length) ** 2) / (2 * SIGMA**2))
    return penalty * total / NGRAMS
