"""How prompts, negatives and examples become one score.

Of prompts, with s the model's logit scale and t_i the cosines of a picture with texts:

    score = sigmoid(s * (the best cosine with a prompt - the best cosine with a negative or neutral text))

which is the softmax of zero-shot classification between the two best texts: 0.5 where both are equally near, so a
threshold of 0.5 flags what is nearest to one of the prompts. Neutral texts that mean nearly the same as a prompt (with
the mean of all neutral texts taken off both, a cosine of 0.8 or more) are left out for that category.

Of examples, with c the cosine of a picture with an example, and u the median of that example's cosines with a few
pictures that have nothing to do with it (the demo's photographs, by the same model):

    score = sigmoid(10 * ((c - u) / (1 - u) - 0.5))

so half way between a picture of something else and the example itself scores 0.5, whatever cosines a model is wont to
give. A category with both gets the larger of the two scores.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

import midsight
from midsight.api import Perception
from midsight.errors import ConfigError, InputError
from midsight.library.moderate.policy import Category, Policy
from midsight.pe import CLIP

Array = npt.NDArray[np.float32]
Scores = npt.NDArray[np.float64]

SAME_MEANING = 0.8  # cosine of centred texts from which on a neutral text is left out
_STEEPNESS = 10.0  # of the score of examples: an example itself scores 0.993
_UNRELATED = Path(midsight.__file__).parent / "assets" / "demo"


@dataclass(frozen=True)
class _Side:
    """What embeddings are compared with for one category."""

    prompts: Array  # (P, D)
    others: Array  # (R, D): negatives, then the neutral texts that are kept
    examples: Array  # (E, D)
    unrelated: Array  # (E,): median cosine of each example with unrelated pictures
    names: tuple[str, ...]  # of prompts, then of examples


class Scorer:
    """A policy's texts and examples, embedded once; the model is not kept.

    Attributes:
        names: of the categories, in the order of the scores.
    """

    def __init__(self, model: Perception, policy: Policy) -> None:
        """
        Raises:
            InputError: a model without texts, where the policy has prompts.
            ConfigError: a category with prompts that has nothing to stand against.
            MediaError: an example that cannot be read.
        """
        self.names = policy.names
        self._scale = 1.0
        neutral = np.empty((0, model.dim), np.float32)
        if any(category.prompts for category in policy.categories):
            if not isinstance(model.model, CLIP) or not model.has_text:
                raise InputError(
                    f"{model.name} does not embed texts; a policy with prompts needs a whole PE-Core model"
                )
            self._scale = float(model.model.logit_scale.detach().float().exp())
            neutral = _texts(model, policy.neutral, policy)
        unrelated = np.empty((0, model.dim), np.float32)
        if any(category.examples for category in policy.categories):
            unrelated = model.embed_images(sorted(_UNRELATED.glob("*.jpg")))
        self._sides = [_side(model, category, policy, neutral, unrelated) for category in policy.categories]

    def scores(self, embeddings: Array) -> Scores:
        """How much pictures or clips are of each category.

        Args:
            embeddings: float32 (N, D), of length 1.

        Returns:
            float64 (N, categories), in [0, 1].
        """
        columns = [np.maximum(self._by_prompts(side, embeddings), self._by_examples(side, embeddings).max(axis=1))
                   for side in self._sides]  # fmt: skip
        return np.stack(columns, axis=1)

    def nearest(self, embedding: Array, category: int) -> str:
        """The prompt that the score of one embedding (D,) comes from, or "example" and the name of its file."""
        side, row = self._sides[category], embedding[None]
        of_examples = self._by_examples(side, row)[0]  # 1 + E, the first for none
        if of_examples.max() > self._by_prompts(side, row)[0]:
            return side.names[len(side.prompts) + int(of_examples.argmax()) - 1]
        return side.names[int((side.prompts @ embedding).argmax())]

    def _by_prompts(self, side: _Side, embeddings: Array) -> Scores:
        """(N,); -1 where the category has none."""
        if not len(side.prompts):
            return np.full(len(embeddings), -1.0)
        best = (embeddings @ side.prompts.T).max(axis=1).astype(np.float64)
        rest = (embeddings @ side.others.T).max(axis=1).astype(np.float64)
        return _sigmoid(self._scale * (best - rest))

    def _by_examples(self, side: _Side, embeddings: Array) -> Scores:
        """(N, 1 + E); the first column stands for none and is -1."""
        cosines = (embeddings @ side.examples.T).astype(np.float64)
        found = _sigmoid(_STEEPNESS * ((cosines - side.unrelated) / (1 - side.unrelated) - 0.5))
        return np.concatenate([np.full((len(embeddings), 1), -1.0), found], axis=1)


def _side(model: Perception, category: Category, policy: Policy, neutral: Array, unrelated: Array) -> _Side:
    prompts, negatives = (_texts(model, texts, policy) for texts in (category.prompts, category.negatives))
    others = np.concatenate([negatives, neutral[_likeness(neutral, prompts) < SAME_MEANING]])
    if len(prompts) and not len(others):
        raise ConfigError(
            f"category {category.name!r}: no negative or neutral text is left that its prompts could stand "
            "against; give it negatives"
        )
    examples = model.embed_images(category.examples)
    return _Side(
        prompts, others, examples,
        unrelated=np.median(examples @ unrelated.T, axis=1) if len(examples) else np.empty(0, np.float32),
        names=(*category.prompts, *(f"example {path.name}" for path in category.examples)),
    )  # fmt: skip


def _texts(model: Perception, texts: tuple[str, ...], policy: Policy) -> Array:
    if not texts:
        return np.empty((0, model.dim), np.float32)
    templates = policy.templates if isinstance(policy.templates, str) else list(policy.templates)
    return model.embed_texts(texts, templates)


def _likeness(neutral: Array, prompts: Array) -> Array:
    """For each neutral text its best cosine with a prompt, both without the mean of the neutral texts; (U,)."""
    if not len(neutral) or not len(prompts):
        return np.full(len(neutral), -1, np.float32)
    mean = neutral.mean(axis=0)  # texts of one model all point much the same way
    a, b = neutral - mean, prompts - mean
    lengths = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1)[None]
    found: Array = (a @ b.T / np.maximum(lengths, 1e-12)).max(axis=1)
    return found


def _sigmoid(x: Scores) -> Scores:
    found: Scores = 0.5 * (1 + np.tanh(x / 2))  # never overflows
    return found
