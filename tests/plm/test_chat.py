"""Rows of training files: marks, labels, lengths, tags, and what cannot be learnt."""

from typing import Any

import pytest

from midsight.errors import InputError
from midsight.plm import chat
from midsight.plm.chat import Tokenizer, encode, format_box, parse_boxes
from tests.plm import peers

SYSTEM = f"<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n{chat.SYSTEM}<|eot_id|>"
USER, ASSISTANT = (f"<|start_header_id|>{role}<|end_header_id|>\n\n" for role in ("user", "assistant"))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
    peers.write_tokenizer(path)
    return Tokenizer.from_file(path)


def row(*texts: Any, **rest: Any) -> dict[str, Any]:
    """A question, an answer, a question ..."""
    speakers = ("human", "assistant") * len(texts)
    return dict(conversations=[{"from": s, "value": t} for s, t in zip(speakers, texts, strict=False)], **rest)


def shown(tokenizer: Tokenizer, sample: chat.Sample, learnt: bool = False) -> str:
    """The ids (or those learnt) as text; visual tokens as dots."""
    pairs = zip(sample["input_ids"], sample["labels"], strict=True)
    text = tokenizer.decode([token for token, label in pairs if not learnt or label == token])
    return text.replace("<|image|>", ".")


def test_a_picture_and_two_questions(tokenizer: Tokenizer) -> None:
    sample = encode(row("<image>\nWhat?", "A cat.", "Where?", 12, image="a.png"), tokenizer, [3], 4096)
    assert shown(tokenizer, sample) == (
        f"{SYSTEM}{USER}...What?<|eot_id|>{ASSISTANT}A cat.<|eot_id|>{USER}Where?<|eot_id|>{ASSISTANT}12<|eot_id|>"
        "<|end_of_text|>"
    )
    assert shown(tokenizer, sample, learnt=True) == (
        f"{ASSISTANT}A cat.<|eot_id|>{ASSISTANT}12<|eot_id|><|end_of_text|>"
    )


def test_several_pictures_stand_where_their_tags_are(tokenizer: Tokenizer) -> None:
    given = row("<image> and\n<image>: same?", "No.", image=["a.png", "b.png"])
    assert f"{USER}.. and\n...: same?<|eot_id|>" in shown(tokenizer, encode(given, tokenizer, [2, 3], 4096))


@pytest.mark.parametrize("text", ["<image>\nWhat?", "What?\n<image>", "<video>\nWhat?", "What?", "What?<image>"])
def test_the_tag_of_a_single_medium_is_taken_out(tokenizer: Tokenizer, text: str) -> None:
    assert f"{USER}..What?<|eot_id|>" in shown(tokenizer, encode(row(text, "Yes."), tokenizer, [2], 4096))


def test_warm_up_has_no_marks_and_no_first_question(tokenizer: Tokenizer) -> None:
    sample = encode(row("What?", "A cat.", "Where?", "Here."), tokenizer, [2], 4096, style="warmup")
    assert shown(tokenizer, sample) == "..A cat.\nWhere?Here.\n"
    assert shown(tokenizer, sample, learnt=True) == "A cat.\nHere.\n"


def test_a_bare_caption(tokenizer: Tokenizer) -> None:
    sample = encode(dict(text="A cat.", image="a.png"), tokenizer, [2], 4096)
    assert shown(tokenizer, sample).endswith(f"{USER}..<|eot_id|>{ASSISTANT}A cat.<|eot_id|><|end_of_text|>")


def test_only_from_the_first_question_to_the_last_answer(tokenizer: Tokenizer) -> None:
    turns = [("assistant", "Hello."), ("human", "What?"), ("assistant", "A cat."), ("human", "And?")]
    given = dict(conversations=[{"from": s, "value": t} for s, t in turns])
    assert shown(tokenizer, encode(given, tokenizer, [], 4096)) == (
        f"{SYSTEM}{USER}What?<|eot_id|>{ASSISTANT}A cat.<|eot_id|><|end_of_text|>"
    )


def test_messages_are_taken_while_all_are_shorter_than_the_limit(tokenizer: Tokenizer) -> None:
    given = row("What?", "A cat.", "Where?", "Here.")
    whole = encode(given, tokenizer, [2], 4096)["input_ids"]
    shortest = len(encode(row("What?", "A cat."), tokenizer, [2], 4096)["input_ids"])  # with its end token
    with pytest.raises(InputError, match="do not fit"):
        encode(given, tokenizer, [2], shortest - 1)
    for limit in range(shortest, len(whole) + 2):
        sample = encode(given, tokenizer, [2], limit)
        assert len(sample["input_ids"]) < limit
        assert sample["input_ids"] == whole[: len(sample["input_ids"])]
        text = shown(tokenizer, sample)
        assert text.endswith(("A cat.<|eot_id|>", "Where?<|eot_id|>", "<|end_of_text|>"))
    assert encode(given, tokenizer, [2], len(whole) + 1)["input_ids"] == whole


def test_boxes_are_written_into_the_text(tokenizer: Tokenizer) -> None:
    given = row(
        "What is at <|bbox1|>?", "It is <|bbox0|>.", bbox=[[0, 0, 50, 50], [10, 20, 5, 5]], width=100, height=50
    )
    text = shown(tokenizer, encode(given, tokenizer, [1], 4096))
    assert "What is at [100,400,150,500]?" in text
    assert "It is [000,000,500,999]." in text


@pytest.mark.parametrize(
    ("given", "tokens", "message"),
    [
        (dict(image="a.png"), [1], "neither conversations nor a text"),
        (dict(conversations=[]), [1], "no question that is answered"),
        (row("What?"), [1], "no question that is answered"),
        (dict(conversations=[{"from": "gpt", "value": "x"}]), [], "'gpt'; expected 'human' or 'assistant'"),
        (dict(conversations=["What?"]), [], "a list of objects"),
        (row("<|bbox0|>?", "Yes.", bbox=[[1, 2, 3, 4]], height=5), [1], "width and height"),
        (row("<|bbox1|>?", "Yes.", bbox=[[1, 2, 3, 4]], width=9, height=5), [1], "names box 1, but the row has 1"),
        (row("<image> and?", "Yes."), [1, 1], "2 images, but 1 <image> tags"),
        (row("<image><image><image>?", "Yes."), [1, 1], "2 images, but more <image> tags"),
    ],
)
def test_rows_without_anything_to_learn(
    tokenizer: Tokenizer, given: dict[str, Any], tokens: list[int], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        encode(given, tokenizer, tokens, 4096)


def test_boxes_there_and_back() -> None:
    assert format_box((64, 32.5, 277, 231.5), 640, 427) == "[100,076,432,542]"
    assert format_box((-5, 0, 9999, 427), 640, 427) == "[000,000,999,999]"
    found = parse_boxes("at [100,200,300,400], not [1,2,3] nor [400,000,100,100]", 1000, 500)
    assert found == [pytest.approx((100.5, 100.25, 300.5, 200.25))]
    with pytest.raises(InputError, match="four numbers"):
        format_box((1, 2, 3), 10, 10)
