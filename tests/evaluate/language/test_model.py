"""A real, tiny PerceptionLM as the answerer."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from midsight.errors import CheckpointError, ConfigError, InputError, MediaError
from midsight.evaluate.language.model import PLMAnswerer, open_answerer
from midsight.plm import PLM
from midsight.plm.chat import chat_format
from midsight.transforms.tiling import tile_image
from midsight.video import plm_indices, sample_frames
from tests.evaluate.language import tiny
from tests.evaluate.language.benchmarks import picture, video


@pytest.fixture(scope="module")
def answerer(tmp_path_factory: pytest.TempPathFactory) -> PLMAnswerer:
    return open_answerer(tiny.save(tmp_path_factory.mktemp("plm") / "tiny"), 12, "cpu")


def by_hand(model: PLM, tiles: torch.Tensor, question: str, count: int) -> str:
    """The answer without cache: all tokens anew at each step."""
    assert model.tokenizer is not None
    chat = chat_format(model.tokenizer, model.config.image_token_id)
    ids = [*chat.begin, *chat.message("system", (chat.system,)), *chat.message("user", (4 * len(tiles), question))]
    ids += [*chat.opening("assistant"), *model.tokenizer.encode(chat.lead)]
    start = len(ids)
    with torch.inference_mode():
        for _ in range(count):
            following = int(model(torch.tensor([ids]), tiles[None])[0, -1].argmax())
            if following in model.config.stop_token_ids:
                break
            ids = [*ids, following]
    return model.tokenizer.decode(ids[start:]).strip()


def test_a_picture_is_asked_about_in_tiles(answerer: PLMAnswerer, tmp_path: Path) -> None:
    picture(tmp_path / "a.png", "teal", (100, 60))
    tiles = tile_image(tmp_path / "a.png", 4, 56)
    assert len(tiles) == 5
    answer = answerer.answer([tmp_path / "a.png"], "What colour?")
    assert answer == by_hand(answerer.model, tiles, "What colour?", 12)
    assert answer
    picture(tmp_path / "b.png", "orange", (100, 60))
    assert answerer.answer([tmp_path / "b.png"], "What colour?") != answer
    questions = ("What colour?", "7", "Name every animal that you see.", "Where is it?")
    assert len({answerer.answer([tmp_path / "a.png"], question) for question in questions}) > 1


def test_frames_of_a_video_and_several_pictures_are_squashed(answerer: PLMAnswerer, tmp_path: Path) -> None:
    video(tmp_path / "v.mp4")
    frames = sample_frames(tmp_path / "v.mp4", 40).frames[plm_indices(40, 6.0, 32)]
    tiles = torch.cat([tile_image(frame, 1, 56, thumbnail=False) for frame in frames])
    assert len(tiles) == 32  # one a second would be 7, so it is an even choice
    answer = answerer.answer([tmp_path / "v.mp4"], "What happens?")
    assert answer == by_hand(answerer.model, tiles, "What happens?", 12)
    assert answerer.answer(list(frames), "What happens?") == answer


def test_media_of_questions_in_a_row_are_read_once(answerer: PLMAnswerer, tmp_path: Path) -> None:
    picture(tmp_path / "a.png", "teal", (100, 60))
    picture(tmp_path / "b.png", "orange", (100, 60))
    asked = [("a", "Which?"), ("a", "Where?"), ("b", "Which?"), ("a", "Which?")]
    answers = [answerer.answer([tmp_path / f"{name}.png"], question) for name, question in asked]
    fresh = [PLMAnswerer(answerer.model, answerer.config).answer([tmp_path / f"{n}.png"], q) for n, q in asked]
    assert answers == fresh
    (tmp_path / "a.png").write_bytes(b"broken")
    assert answerer.answer([tmp_path / "a.png"], "Where?") == answers[1]  # from memory
    answerer.answer([tmp_path / "b.png"], "Which?")
    with pytest.raises(MediaError, match=r"a\.png"):
        answerer.answer([tmp_path / "a.png"], "Where?")
    assert answerer.answer([tmp_path / "b.png"], "Which?") == answers[2]


def test_pictures_in_memory_are_never_taken_for_each_other(answerer: PLMAnswerer) -> None:
    colours = [Image.new("RGB", (60, 60), colour) for colour in ("teal", "orange")]
    first, second = (answerer.answer([image], "What colour?") for image in colours)
    assert first != second


def test_what_cannot_be_answered_is_said(answerer: PLMAnswerer, tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    with pytest.raises(InputError, match="tokens, 20 of them visual, and the language model reads 1024"):
        answerer.answer([tmp_path / "a.png"], "why " * 300)


def test_half_an_answer_is_none(answerer: PLMAnswerer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "a.png")
    steps = answerer.model.decode

    def stopped(*arguments: Any, **named: Any) -> Iterator[torch.Tensor]:
        yield next(steps(*arguments, **named))
        raise KeyboardInterrupt

    monkeypatch.setattr(answerer.model, "decode", stopped)
    with pytest.raises(KeyboardInterrupt):
        answerer.answer([tmp_path / "a.png"], "Why?")


def test_a_model_needs_a_tokenizer_and_a_dtype_that_is_known(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "tiny")
    with pytest.raises(ConfigError, match="dtype must be auto, fp32, bf16, got 'fp8'"):
        open_answerer(folder, 12, "cpu", "fp8")
    assert open_answerer(folder, 12, "cpu", "bf16").model.dtype is torch.bfloat16
    (folder / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match="has no tokenizer"):
        open_answerer(folder, 12, "cpu")
