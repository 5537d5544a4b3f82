"""Kinds of inputs, batches, outcomes."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from midsight import errors
from midsight.api.media import Outcome, Reader, as_iterable
from midsight.configs import PreprocessConfig
from midsight.transforms.image import from_config

TRANSFORM = from_config(PreprocessConfig(image_size=16))


def test_single_inputs_become_lists() -> None:
    picture = np.zeros((4, 5, 3), np.uint8)
    for single in ("a.jpg", Path("a.jpg"), b"bytes", Image.new("RGB", (2, 2)), picture, torch.zeros(3, 4, 4)):
        assert len(list(as_iterable(single))) == 1
    clip = np.zeros((2, 4, 5, 3), np.uint8)
    assert len(list(as_iterable(clip, "auto"))) == 1
    assert len(list(as_iterable(clip, "video"))) == 1
    assert len(list(as_iterable(clip, "image"))) == 2, "a batch of pictures"
    assert len(list(as_iterable(clip[None], "video"))) == 1
    assert list(as_iterable(["a", "b"])) == ["a", "b"]
    with pytest.raises(errors.InputError, match="got int"):
        as_iterable(3)


def test_batches_count_frames_and_keep_failures_in_place() -> None:
    clip = np.zeros((5, 8, 8, 3), np.uint8)
    picture = np.zeros((8, 8, 3), np.uint8)
    batches = list(Reader(TRANSFORM).batches([picture, "missing.jpg", picture, clip, picture], 3))
    assert [[len(e.frames) if e.frames is not None else None for e in batch.entries] for batch in batches] == [
        [1, None, 1], [5], [1],
    ]  # fmt: skip
    assert batches[0].pixels is not None
    assert batches[0].pixels.shape == (2, 3, 16, 16)
    assert batches[0].counts == [1, 1]
    outcomes = list(batches[0].outcomes(["first", "second"]))
    assert [outcome.value for outcome in outcomes] == ["first", None, "second"]
    assert isinstance(outcomes[1].error, errors.MediaError)
    assert [outcome.index for outcome in outcomes] == [0, 1, 2]
    with pytest.raises(errors.MediaError, match="missing.jpg"):
        batches[0].raise_first_error()


def test_a_batch_of_failures_alone() -> None:
    (batch,) = Reader(TRANSFORM).batches(["missing.jpg"], 4)
    assert batch.pixels is None
    assert [type(outcome.error) for outcome in batch.outcomes([])] == [errors.MediaError]


def test_a_result_that_cannot_be_used_is_a_failure_with_a_name() -> None:
    (batch,) = Reader(TRANSFORM).batches([np.zeros((8, 8, 3), np.uint8)], 4)
    (outcome,) = batch.outcomes([None])
    assert "ndarray (8, 8, 3)" in str(outcome.error)


def test_outcome() -> None:
    good, bad = Outcome(0, "a", 2), Outcome[int](1, "b", None, errors.MediaError("b: broken"))
    assert good.unwrap() == 2
    assert good.map(lambda value: value + 1).value == 3
    assert bad.map(lambda value: value + 1).error is bad.error
    with pytest.raises(errors.MediaError, match="b: broken"):
        bad.unwrap()


def test_bugs_are_not_taken_for_broken_files() -> None:
    class Broken(Reader):
        def read(self, numbered: tuple[int, object]) -> Iterator[object]:  # type: ignore[override]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(Broken(TRANSFORM).batches(["a.jpg"], 1))


def test_a_lack_of_memory_is_a_failure_of_one_input() -> None:
    class Hungry(Reader):
        def read(self, numbered: tuple[int, object]) -> Iterator[object]:  # type: ignore[override]
            raise MemoryError

    (batch,) = Hungry(TRANSFORM).batches(["huge.jpg"], 4)
    with pytest.raises(errors.MediaError, match="huge.jpg: not enough memory"):
        batch.raise_first_error()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "sound"}, "kind"),
        ({"num_frames": 0}, "num_frames"),
        ({"segment_seconds": 0.0}, "longer than 0"),
        ({"segment_seconds": float("nan")}, "longer than 0"),
    ],
)
def test_options_that_cannot_be(options: dict[str, object], message: str) -> None:
    with pytest.raises(errors.InputError, match=message):
        Reader(TRANSFORM, **options)  # type: ignore[arg-type]


def test_batch_size_below_one() -> None:
    with pytest.raises(errors.InputError, match="batch_size"):
        list(Reader(TRANSFORM).batches(["a.jpg"], 0))


def test_empty_clip() -> None:
    (batch,) = Reader(TRANSFORM, kind="video").batches([np.zeros((0, 8, 8, 3), np.uint8)], 4)
    with pytest.raises(errors.MediaError, match="no frames"):
        batch.raise_first_error()


@pytest.mark.filterwarnings("ignore:.*cut or broken:UserWarning")
@pytest.mark.parametrize("segment_seconds", [None, 1.0])
def test_outcomes_say_what_is_of_a_cut_video(segment_seconds: float | None) -> None:
    media = Path(__file__).parents[1] / "media"
    reader = Reader(TRANSFORM, num_frames=2, segment_seconds=segment_seconds)
    found: dict[str, set[bool]] = {}
    for batch in reader.batches([media / "cut.mkv", media / "b_frames.mp4", np.zeros((8, 8, 3), np.uint8)], 2):
        for outcome in batch.outcomes(batch.counts):
            name = getattr(outcome.source, "name", "array")
            found.setdefault(name, set()).add(outcome.map(str).short_read)
    assert found == {"cut.mkv": {True}, "b_frames.mp4": {False}, "array": {False}}
