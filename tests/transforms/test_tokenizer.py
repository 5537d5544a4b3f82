"""The tokenizer against open_clip's, live."""

import random
import unicodedata
import warnings

import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer

from midsight.errors import ConfigError, InputError
from midsight.transforms import get_text_tokenizer
from midsight.transforms import tokenizer as tokenizer_module

WRITTEN = [
    "a photo of a cat",
    "",
    "   ",
    "Ein Hund läuft über die Straße!  😀",
    "it's they'll I'D we've 'tis x'm",
    "3.14% &amp;amp; <b>HTML</b> &lt;i&gt; &eacute; &#x1F600;",
    "日本語のテキストと猫 한국어 텍스트 中文字符",
    "Привет, мир! Ψάρι και πατάτες שלום עולם مرحبا بالعالم हिन्दी में ไทย",
    "<start_of_text> literal marks <end_of_text> inside <end_of_text>x",
    "ﬁne ligatures, Ⅷ ½ ² İstanbul ſharp 'ſ",
    "mojibake schÃ¶n â€œquotesâ€\x9d cafÃ©",
    "tab\tnew\nline\r\nand \x1f \x00 controls \x7f\x1b[31m",
    "e\u0301 combining, zero\u200bwidth, soft\u00adhyphen, nbsp\u00a0here",
    "👩‍👩‍👧‍👦 🇩🇪 👍🏽 ✂️",
    "snake_case, kebab-case; under__score ... --- !!!???",
    "x" * 400,
]
RANGES = ((32, 126), (32, 126), (160, 0x24F), (0x370, 0x52F), (0x590, 0x6FF), (0x900, 0xDFF), (0x1E00, 0x20CF),
          (0x3040, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0x1F300, 0x1F64F))  # fmt: skip


def invented(count: int) -> list[str]:
    """Texts of characters that Unicode had long before either library was built."""
    draw = random.Random(0)
    texts = []
    for _ in range(count):
        chars = [chr(draw.randint(*draw.choice(RANGES))) for _ in range(draw.randint(1, 40))]
        texts.append("".join(c if unicodedata.category(c) != "Cn" and draw.random() > 0.15 else " " for c in chars))
    return texts


def test_ids_are_open_clips() -> None:
    texts = WRITTEN + invented(3000)
    expected = SimpleTokenizer(context_length=77)(texts)
    with pytest.warns(UserWarning, match="were cut"):
        found = get_text_tokenizer(77)(texts)
    differing = [text for text, a, b in zip(texts, found, expected, strict=True) if not torch.equal(a, b)]
    assert not differing
    assert found.dtype == expected.dtype == torch.int64


def test_a_long_text_is_cut_at_its_end_mark_and_said_once() -> None:
    tokenizer = get_text_tokenizer(8)
    with pytest.warns(UserWarning, match=r"1 of 2 texts are longer than the context of 8 tokens"):
        ids = tokenizer(["a b c d e f g h i j", "short"])
    assert torch.equal(ids, SimpleTokenizer(context_length=8)(["a b c d e f g h i j", "short"]))
    assert ids[0, -1] == 49407
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tokenizer("a b c d e f g h i j")


def test_words_that_are_remembered_are_short_and_change_nothing() -> None:
    tokenizer = get_text_tokenizer(32)
    long = "ab" * 30
    texts = [f"a {long} cat", f"a dog {long}"]
    first = tokenizer.encode(texts)
    assert tokenizer.encode(texts) == first
    assert {"a", "cat", "dog"} <= tokenizer._words.keys()
    assert long not in tokenizer._words  # clients could fill the memory with such


def test_words_are_remembered_once_for_all_tokenizers_and_not_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer_module, "WORDS_KEPT", 50)
    first, second = get_text_tokenizer(32), get_text_tokenizer(72)
    expected = [first.encode(f"word{n}") for n in range(200)]
    assert "word199" in second._words
    assert len(second._words) <= 51
    assert [second.encode(f"word{n}") for n in range(200)] == expected


def test_one_string_is_a_batch_of_one() -> None:
    tokenizer = get_text_tokenizer(32)
    assert torch.equal(tokenizer("a dog"), tokenizer(["a dog"]))
    assert tokenizer("a dog", context_length=5).tolist() == [[49406, 320, 1929, 49407, 0]]
    assert tokenizer([]).shape == (0, 32)


def test_decoding_gives_the_cleaned_text() -> None:
    tokenizer = get_text_tokenizer(32)
    assert tokenizer.decode(tokenizer("A  Café on the Straße!")[0].tolist()) == "a café on the straße !"


@pytest.mark.parametrize("texts", [[b"bytes"], ["fine", None], [3]])
def test_what_is_no_text_is_refused(texts: list[object]) -> None:
    with pytest.raises(InputError, match="must be strings"):
        get_text_tokenizer(32)(texts)


def test_a_context_must_hold_both_marks() -> None:
    with pytest.raises(ConfigError, match="at least start and end"):
        get_text_tokenizer(1)
