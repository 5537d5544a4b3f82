"""The teacher of the vision tower: photographs by the classifier, drawings by their caption."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from midsight.errors import CheckpointError, ConfigError
from midsight.train.distill import open_teacher
from midsight.train.embedded import teacher, vocabulary
from midsight.train.embedded.teacher import WordsTeacher
from midsight.transforms import get_text_tokenizer
from tests.train.embedded import small

CONTEXT = 12
SAID = ["tabby", "jeep", "fig", "a drawing of beagle", "a drawing of smiling face"]
DRAWN = torch.tensor([False, False, False, True, True])


def tokens(texts: list[str], length: int = CONTEXT) -> Tensor:
    return get_text_tokenizer(length)(texts)


def places(words: vocabulary.Vocabulary) -> Tensor:
    position = {text: row for row, text in enumerate(words.texts)}
    return words.targets[[position[text.removeprefix("a drawing of ")] for text in SAID]]


@pytest.fixture
def made(words: vocabulary.Vocabulary) -> WordsTeacher:
    return WordsTeacher(small.trunk(), words.words, tokens(SAID), places(words), DRAWN)


def pixels(count: int) -> Tensor:
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_photographs_get_the_classifiers_answer_and_drawings_their_captions(
    made: WordsTeacher, words: vocabulary.Vocabulary
) -> None:
    order, media, net = [4, 0, 3, 1, 0], pixels(5), small.trunk()
    images, texts = made(media, tokens([SAID[row] for row in order]))
    assert torch.equal(texts, places(words)[order])
    with torch.no_grad():
        answer = words.words.image(net.logits(net.stem(media).mean((2, 3))).softmax(-1))
    for row, number in enumerate(order):
        expected = places(words)[number] if DRAWN[number] else answer[row]
        torch.testing.assert_close(images[row], expected, rtol=1e-4, atol=1e-5)
    assert (answer[1] - places(words)[0]).norm() > 0.3
    assert not images.requires_grad


def test_a_text_without_a_place_is_told(made: WordsTeacher) -> None:
    with pytest.raises(ConfigError, match=r"row 1 of a batch holds a text that the teacher has no place for"):
        made(pixels(2), tokens(["tabby", "a zebra"]))


@pytest.fixture
def saved(words: vocabulary.Vocabulary, tmp_path: Path) -> Path:
    teacher.save_teacher(tmp_path / "teacher", small.trunk(), words.words, tokens(SAID), places(words), DRAWN)
    return tmp_path / "teacher"


def test_it_is_the_same_when_opened_again(made: WordsTeacher, saved: Path) -> None:
    """By its import path, as a recipe names it; places are kept in half precision."""
    name = f"midsight.train.embedded.teacher:open_words:{saved}"
    opened, media = open_teacher(name, torch.device("cpu"), CONTEXT), pixels(5)
    for found, expected in zip(opened(media, tokens(SAID)), made(media, tokens(SAID)), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)


def test_what_cannot_be_opened_is_told(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="made for texts of 12 tokens, the student reads 16"):
        teacher.open_words(str(saved), torch.device("cpu"), 16)
    with pytest.raises(CheckpointError, match=r"none/teacher\.safetensors: not there"):
        teacher.open_words(str(tmp_path / "none"), torch.device("cpu"), CONTEXT)
