"""A published folder saved for transformers: tokenizer, template and processor give the ids that midsight gives."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from midsight.errors import CheckpointError
from midsight.plm import PLM, tokenizer_json
from midsight.plm.answer import Answerer
from midsight.plm.chat import chat_format
from midsight.plm.tokenizer import JsonTokenizer, Tokenizer
from tests.plm import tiny

TEXTS = [
    "What is the total of this invoice? It's 1234567.89 EUR, isn't it",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.",
    "株式会社の請求書です。合計はいくらですか？",
    "Сколько это стоит? 12 345,67 ₽",
    "كم المبلغ الإجمالي؟ ١٢٣٤",
    "कुल राशि कितनी है? १२३",
    "👩‍🚀🇩🇪 emoji, e\u0301 and é, ﬁ, \u200b, \x00, \x7f",
    "  spaces   and\ttabs \r\n\r\n lines\n\n\n end   ",
    "def f(x):\n    return x ** 2  # code\n",
    "\n\nbegins with a line break",
    "'S'LL don'T WE'VE",
    "",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the published layout, read and saved in transformers' layout."""
    here = tmp_path_factory.mktemp("published")
    tiny.published(here)
    PLM.from_pretrained(here).save_pretrained(here / "saved")
    return here / "saved"


@pytest.fixture(scope="module")
def ours(folder: Path) -> Tokenizer:
    return Tokenizer.from_file(folder / "tokenizer.model")


@pytest.mark.parametrize("text", TEXTS)
def test_transformers_tokenizer_gives_the_same_ids(folder: Path, ours: Tokenizer, text: str) -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(folder)
    expected = ours.encode(text)
    assert theirs.encode(text, add_special_tokens=False) == expected
    assert theirs.encode(text) == [ours.bos_id, *expected]
    assert JsonTokenizer(folder / "tokenizer.json").encode(text) == expected
    assert theirs.decode(expected) == ours.decode(expected) == text
    assert theirs.convert_tokens_to_ids(list(ours.special_tokens)) == list(ours.special_tokens.values())


@pytest.mark.parametrize("text", [text for text in TEXTS if text.strip()])
def test_the_template_gives_the_ids_of_a_conversation(folder: Path, ours: Tokenizer, text: str) -> None:
    from transformers import AutoTokenizer

    theirs, chat = AutoTokenizer.from_pretrained(folder), chat_format(ours)
    messages = [dict(role=role, content=text) for role in ("user", "assistant", "user")]
    expected = [*chat.begin, *chat.message("system", (chat.system,))]
    for message in messages:
        expected += chat.message(message["role"], (text,))
    found = theirs.apply_chat_template(messages, tokenize=True, return_dict=True)["input_ids"]
    assert found == expected
    expected += [*chat.opening("assistant"), *ours.encode(chat.lead)]
    found = theirs.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
    assert found == expected
    own = [dict(role="system", content="Be brief."), *messages]
    found = theirs.apply_chat_template(own, return_dict=True)["input_ids"]
    assert found[: len(chat.begin)] == list(chat.begin)
    assert found[1:][: len(chat.message("system", ("Be brief.",)))] == chat.message("system", ("Be brief.",))


def test_the_processor_and_the_model_answer_as_midsight(folder: Path) -> None:
    """A picture and a question through transformers alone: the ids, and the answer's."""
    from transformers import AutoProcessor, PerceptionLMForConditionalGeneration

    processor = AutoProcessor.from_pretrained(folder)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (150, 90, 3), np.uint8))
    content: list[dict[str, Any]] = [dict(type="text", text="Сколько?"), dict(type="image", image=picture)]
    given = processor.apply_chat_template(
        [dict(role="user", content=content)], add_generation_prompt=True, tokenize=True, return_dict=True,
        return_tensors="pt",
    )  # fmt: skip
    answerer = Answerer(PLM.from_pretrained(folder))
    page = answerer.read([picture])
    ids = page.ids + answerer._rest("Сколько?", (), page)
    assert given["input_ids"][0].tolist() == ids
    assert page.media[0].pixels.shape == given["pixel_values"][0].shape
    model = PerceptionLMForConditionalGeneration.from_pretrained(folder).eval()
    with torch.inference_mode():
        pixels = page.media[0].pixels[None]
        expected = model(input_ids=torch.tensor([ids]), pixel_values=pixels).logits[0, -1]
        found = answerer.model(torch.tensor([ids]), pixels)[0, -1]
    assert expected.std() > 0.5
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=0)


def test_merges_are_those_that_the_vocabulary_was_made_with(ours: Tokenizer) -> None:
    import json

    from tokenizers import Tokenizer as Backend

    trained = json.loads(tiny._trained())["model"]["merges"]
    chars = tokenizer_json.byte_chars()
    found = [["".join(chars[byte] for byte in part) for part in pair] for pair in tokenizer_json.merges_of(ours._ranks)]
    assert found == [list(pair) for pair in trained]
    assert len(found) > 100
    assert Backend.from_str(tiny._trained()).get_vocab_size() == len(found) + 256


def test_a_vocabulary_that_is_no_byte_pair_encoding_is_an_error() -> None:
    ranks = {bytes([byte]): byte for byte in range(256)} | {b"abc": 256}
    with pytest.raises(CheckpointError, match="b'abc' of rank 256 is made of 3 pieces"):
        tokenizer_json.merges_of(ranks)
