"""Tokenizer: how fast do captions become ids?"""

import random
from collections.abc import Callable, Iterator
from itertools import chain, islice

import open_clip
import torch
from torch import Tensor

from benchmarks import machine
from benchmarks.captions import CAPTIONS
from benchmarks.common import Call, beside, fresh, in_turn, ratio
from benchmarks.report import Section
from midsight.transforms import get_text_tokenizer

Tokenizer = Callable[[str | list[str]], Tensor]
ROUNDS = 15
PREPARED = 400  # lists of new texts, more than the rounds take
ODD = [
    "Zwei Hunde spielen im Schnee &amp; lachen",
    "雪の中の犬",
    "собака на снегу",
    "un chien près de l’église 🐶",
    "cafÃ© au lait",
]
INTRO = (
    "Short captions to ids of context 32, against open_clip's tokenizer. Both keep the words that they have seen: "
    '"known words" are captions that both have seen, "new words" are made of syllables and never come twice. Ids are '
    "compared before anything is timed, also for a few texts in other scripts and with broken characters."
)
SYLLABLES = ("ka", "lo", "min", "ter", "sol", "vey", "dra", "pu", "nish", "ob", "ri", "gant", "el", "fy", "qua", "zen")


def run() -> Section:
    """Known words at once and one by one, and words never seen."""
    machine.pin()
    ours, theirs = get_text_tokenizer(32), open_clip.get_tokenizer("PE-Core-T-16-384")
    odd = CAPTIONS + ODD + next(new_texts(0))
    if not torch.equal(ours(odd), theirs(odd)):
        raise RuntimeError("midsight and open_clip give different ids")
    section = Section("Tokenizer", INTRO)
    memory = [fresh(f"benchmarks.child:tokens_{who}", CAPTIONS).peak for who in ("midsight", "open_clip")]
    for case, tokenize in {"known words": known, "known words, one by one": one_by_one, "new words": new}.items():
        times = in_turn({"midsight": tokenize(ours), "open_clip": tokenize(theirs)}, ROUNDS)
        section.rows.append(
            {
                "Case": f"{len(CAPTIONS)} captions, {case}",
                "Speed": str(ratio(times["midsight"], times["open_clip"], "open_clip")),
                "Goal": "-",
                "Per caption": beside(times, "midsight", "open_clip", len(CAPTIONS)),
                "Ids": "equal",
            }
        )
    section.rows[0]["Peak memory"] = f"{memory[0]:.0f} MB (open_clip {memory[1]:.0f} MB)"
    section.notes.append("Peak memory is that of a process that imports the library and tokenizes them.")
    return section


def known(tokenizer: Tokenizer) -> Call:
    """All captions in one call."""
    return lambda: tokenizer(CAPTIONS)


def one_by_one(tokenizer: Tokenizer) -> Call:
    """A call for each caption."""
    return lambda: [tokenizer(text) for text in CAPTIONS]


def new(tokenizer: Tokenizer) -> Call:
    """As many texts as there are captions, others each time; both tokenizers get the same ones."""
    endless = new_texts(1)
    texts = chain(list(islice(endless, PREPARED)), endless)  # making them should not be part of a sample
    return lambda: tokenizer(next(texts))


def new_texts(seed: int) -> Iterator[list[str]]:
    """Lists of texts of made-up words, without end."""
    generator = random.Random(seed)
    while True:
        words = ["".join(generator.choices(SYLLABLES, k=5)) for _ in range(3 * len(CAPTIONS))]
        yield ["a photo of " + " ".join(words[i : i + 3]) for i in range(0, len(words), 3)]
