"""CLIP's text cleaning and byte-pair vocabulary, on the `tokenizers` library (published `tokenizer.py`)."""

import gzip
import html
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

from midsight.errors import ConfigError, InputError
from midsight.imports import without_gc

VOCABULARY = Path(__file__).parent.parent / "assets" / "clip_vocabulary" / "merges.txt.gz"
MERGES = 49152 - 256 - 2
WORDS_KEPT = 10_000  # words whose ids are remembered, by all tokenizers together: about 4 MB
LONGEST_KEPT = 40  # letters of such a word: longer ones hardly come twice
START, END = "<start_of_text>", "<end_of_text>"
START_ID, END_ID = 49406, 49407
WORDS = r"(?i)'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"


class TextTokenizer:
    """Texts to token ids: start, pieces, end, then zeros up to the context length.

    Attributes:
        context_length: ids per text.
        tokenizer: the `tokenizers.Tokenizer`, without cleaning, padding or the two marks.
    """

    _words: ClassVar[dict[str, list[int]]] = {}

    def __init__(self, context_length: int) -> None:
        if context_length < 2:
            raise ConfigError(f"context_length must hold at least start and end (2), got {context_length}")
        self.context_length = context_length
        self.tokenizer = clip_tokenizer()
        self._warned = False

    def __call__(self, texts: str | Sequence[str], context_length: int | None = None) -> Tensor:
        """Token ids, int64 (B, context_length). A text that is too long is cut and still ends with the end mark
        (published).

        Raises:
            InputError: `texts` is neither a string nor a sequence of strings.
        """
        length = context_length or self.context_length
        pieces = self.encode(texts)
        rows = np.zeros((len(pieces), length), np.int64)
        too_long = 0
        for row, ids in zip(rows, pieces, strict=True):
            kept = ids[: length - 2]
            too_long += len(kept) < len(ids)
            row[: len(kept) + 2] = (START_ID, *kept, END_ID)
        if too_long and not self._warned:
            self._warned = True
            warnings.warn(
                f"{too_long} of {len(pieces)} texts are longer than the context of {length} tokens and were cut; "
                "said once for this tokenizer",
                stacklevel=2,
            )
        return torch.from_numpy(rows)

    def encode(self, texts: str | Sequence[str]) -> list[list[int]]:
        """Ids of each text without marks, padding or cut."""
        texts = [texts] if isinstance(texts, str) else list(texts)
        for text in texts:
            if not isinstance(text, str):
                raise InputError(f"texts must be strings, got {type(text).__name__}: {text!r:.80}")
        words = [clean(text).split() for text in texts]  # no piece of the vocabulary reaches over white space
        if len(self._words) > WORDS_KEPT:
            TextTokenizer._words = {}
        known = self._words  # another thread may start a new one meanwhile
        new = list({word for each in words for word in each if word not in known})
        encodings = self.tokenizer.encode_batch_fast(new, add_special_tokens=False)
        fresh = {word: encoding.ids for word, encoding in zip(new, encodings, strict=True)}
        known.update((word, ids) for word, ids in fresh.items() if len(word) <= LONGEST_KEPT)
        return [[i for word in each for i in fresh.get(word) or known[word]] for each in words]

    def decode(self, ids: Sequence[int]) -> str:
        """The cleaned text that the ids stand for, without marks and padding."""
        return self.tokenizer.decode([i for i in ids if i not in (0, START_ID, END_ID)]).strip()


def get_text_tokenizer(context_length: int) -> TextTokenizer:
    """The tokenizer of the published models.

    Args:
        context_length: ids per text; 32, for G 72.
    """
    return TextTokenizer(context_length)


def clean(text: str) -> str:
    """CLIP's cleaning: repair mojibake, unescape HTML twice, fold white space, lower-case.

    Printable ASCII without an ampersand is what the repairs leave as it is, so it skips them.
    """
    folded = " ".join(text.split())
    if not (folded.isascii() and folded.isprintable() and "&" not in folded):
        import ftfy

        folded = " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split())
    return folded.lower()


@cache
@without_gc()
def clip_tokenizer() -> Tokenizer:
    """The vocabulary as a `tokenizers.Tokenizer`; built once."""
    merges = _merges()
    symbols = byte_symbols()
    tokens = [*symbols, *(s + "</w>" for s in symbols), *(a + b for a, b in merges), START, END]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, end_of_word_suffix="</w>", unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.Sequence([decoders.Replace("</w>", "Ġ"), decoders.ByteLevel()])
    tokenizer.add_special_tokens([AddedToken(mark, normalized=False, special=True) for mark in (START, END)])
    return tokenizer


def _merges() -> list[tuple[str, str]]:
    with gzip.open(VOCABULARY, "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")[1 : MERGES + 1]
    return [(left, right) for left, right in (line.split() for line in lines)]


def whole_words() -> list[str]:
    """The words that the vocabulary has as one token, about from the most common to the rarest."""
    return [(a + b).removesuffix("</w>") for a, b in _merges() if b.endswith("</w>")]


def byte_symbols() -> list[str]:
    """A printable character for each byte, in the vocabulary's order: printable Latin-1 first, the rest from U+0100
    on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(256 - len(printable))]
