"""Several descriptions of one clip become one short caption: by a rule, or by a language model.

The rule is ours, for where there is no language model; the paper asks one for a plain, concise caption (A.1).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from midsight.data.samples import plain_caption

MAX_WORDS = 60
"""Of a merged caption; about the 72 tokens that the largest published text tower reads."""

_SAID = 0.8  # share of a sentence's words that were said before, above which it says nothing new
_FUNCTION_WORDS = frozenset((
    "a", "an", "the", "is", "are", "was", "were", "be", "and", "or", "of", "in", "on", "at", "to", "with", "by", "from",
    "it", "its", "this", "that", "there", "as", "into", "while",
))  # fmt: skip


@dataclass(frozen=True)
class Words:
    """All that is said about a clip."""

    clip: str
    frames: tuple[str, ...]
    title: str = ""  # from the data set, where it has them
    description: str = ""


Merge = Callable[[Words, int], str]  # most words -> one caption


def merge_by_rule(words: Words, max_words: int = MAX_WORDS) -> str:
    """Sentences of title, clip, description and frames, in this order, without those that say nothing new.

    A sentence that does not fit is left out; the first is cut.
    """
    said: set[str] = set()
    chosen: list[str] = []
    room = max_words
    for sentence in (
        s for text in (words.title, words.clip, words.description, *words.frames) for s in _sentences(text)
    ):
        content = {w for w in re.findall(r"\w+", sentence.lower()) if w not in _FUNCTION_WORDS}
        length = len(sentence.split())
        if not content or len(content & said) > _SAID * len(content) or (chosen and length > room):
            continue
        chosen.append(" ".join(sentence.split()[:room]))
        said |= content
        room -= min(length, room)
    return " ".join(_closed(sentence) for sentence in chosen)


def merge_by_model(generate: Callable[[str], str]) -> Merge:
    """Merging by a language model, which is any function from a prompt to a text."""

    def merge(words: Words, max_words: int) -> str:
        return " ".join(plain_caption(generate(merge_prompt(words, max_words))).split()[:max_words])

    return merge


def merge_prompt(words: Words, max_words: int = MAX_WORDS) -> str:
    """What a language model is asked."""
    parts = [("Title", words.title), ("Description", words.description), ("Whole video", words.clip)]
    parts += [(f"Frame {k}", text) for k, text in enumerate(words.frames, start=1)]
    notes = "\n".join(f"{name}: {text}" for name, text in parts if text)
    return (
        f"Below are notes on one video by several observers, who can be wrong. Write one plain caption of at most "
        f"{max_words} words that says what is seen and what happens. Keep what the notes agree on, leave out guesses, "
        f"and answer with the caption alone.\n\n{notes}"
    )


def _sentences(text: str) -> list[str]:
    return [part for part in re.split(r"(?<=[.!?])\s+", text.strip()) if part]


def _closed(sentence: str) -> str:
    return sentence if sentence.endswith((".", "!", "?")) else f"{sentence}."
