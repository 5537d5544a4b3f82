"""Batches: tensors, exact states, what cannot be decoded."""

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from midsight.configs import PreprocessConfig
from midsight.data.datasets import open_dataset
from midsight.data.loader import Batches, TrainBatch, batches
from midsight.data.stream import Order
from midsight.errors import ConfigError
from midsight.transforms import get_text_tokenizer
from midsight.transforms.augment import TrainTransform
from tests.data import small_sets

MEDIA = Path(__file__).parents[1] / "media"
TRANSFORM = TrainTransform(PreprocessConfig(8), seed=5)


def open_batches(path: Path, size: int = 4, **options: object) -> Batches:
    return batches(open_dataset(path), TRANSFORM, get_text_tokenizer(8), size, **options)  # type: ignore[arg-type]


def test_shapes_and_types(tmp_path: Path) -> None:
    batch = next(iter(open_batches(small_sets.shards(tmp_path / "d", 9))))
    assert isinstance(batch, TrainBatch)
    assert batch.images is not None
    assert (batch.images.shape, batch.images.dtype) == ((4, 3, 8, 8), torch.float32)
    assert (batch.texts.shape, batch.texts.dtype) == ((4, 8), torch.int64)
    assert batch.videos is None
    assert len(batch) == len(set(batch.keys)) == 4
    expected = get_text_tokenizer(8)(list(batch.captions))
    assert torch.equal(batch.texts, expected)


def test_captions_are_put_into_templates_that_are_drawn_for_each_sample_and_epoch(tmp_path: Path) -> None:
    templates = ("a {c}", "{c}, {c}", "{c}!")
    path = small_sets.shards(tmp_path / "d", 6)

    def texts(seed: int) -> list[list[str]]:
        found = open_batches(path, 6, order=Order(seed=seed), templates=templates)
        return [sorted(map(str, batch.texts.tolist())) for batch in itertools.islice(found, 4)]

    tokenizer, epochs = get_text_tokenizer(8), texts(1)
    batch = next(iter(open_batches(path, 6, order=Order(seed=1), templates=templates)))
    for caption, row in zip(batch.captions, batch.texts, strict=True):
        filled = tokenizer([template.replace("{c}", caption) for template in templates])
        assert caption.startswith("caption ")
        assert (filled == row).all(dim=1).any()
    assert epochs == texts(1)
    assert epochs != texts(2)
    assert len({tuple(epoch) for epoch in epochs}) > 1


@pytest.mark.parametrize("workers", [1, 3])
def test_a_state_resumes_with_the_next_batch_bit_for_bit(
    make: Callable[[Path, int], Path], tmp_path: Path, workers: int
) -> None:
    path, order = make(tmp_path / "d", 11), Order(seed=2, rank=1, ranks=2)
    whole = list(itertools.islice(open_batches(path, 2, order=order), 12))  # several epochs, batches across their ends
    for stop in (1, 3, 7):
        first = open_batches(path, 2, order=order, workers=workers)
        list(itertools.islice(first, stop))
        state = json.loads(json.dumps(first.state()))
        rest = itertools.islice(open_batches(path, 2, order=order, workers=workers, resume=state), 12 - stop)
        for ours, theirs in zip(rest, whole[stop:], strict=True):
            assert ours.keys == theirs.keys
            assert ours.images is not None
            assert theirs.images is not None
            assert torch.equal(ours.images, theirs.images)


def test_the_same_sample_is_varied_anew_in_each_epoch(tmp_path: Path) -> None:
    small_sets.captioned_folder(tmp_path / "d", 1)
    Image.effect_noise((40, 30), 90).save(tmp_path / "d/0000.png")
    first, second = (b.images for b in itertools.islice(open_batches(tmp_path / "d", 1), 2))
    assert first is not None
    assert second is not None
    assert not torch.equal(first, second)


def test_what_cannot_be_decoded_is_counted(tmp_path: Path) -> None:
    folder = small_sets.captioned_folder(tmp_path / "d", 3)
    (folder / "broken.png").write_bytes(small_sets.picture()[:40])
    Image.new("1", (10_000, 10_000)).save(folder / "huge.png")  # 100 megapixels in a few kilobytes
    (folder / "clip.mp4").write_bytes((MEDIA / "one_frame.mp4").read_bytes())
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    for name in ("broken", "huge", "clip", "gone"):
        (folder / f"{name}.txt").write_text("words")
    found = open_batches(folder, 1, epochs=1)
    assert len(list(found)) == 3
    expected = {"unreadable picture": 2, "too many pixels": 1, "a video among pictures": 1}
    assert found.skipped == expected
    assert sum(found.state()["skipped"].values()) <= 4  # those behind the last batch are not in its state


def test_clips(tmp_path: Path) -> None:
    clip = (MEDIA / "b_frames.mp4").read_bytes()
    cut = (MEDIA / "cut.mkv").read_bytes()
    small_sets.write_shard(
        tmp_path / "s.tar",
        {
            "a": {"mp4": clip, "txt": b"words"}, "b": {"mp4": clip, "json": b'{"human_caption": "more words"}'},
            "c": {"png": small_sets.picture(), "txt": b"words"}, "d": {"mkv": cut, "txt": b"words"},
            "e": {"mp4": b"nothing", "txt": b"words"},
        },
    )  # fmt: skip
    found = open_batches(tmp_path / "s.tar", 2, frames=3, epochs=1)
    (batch,) = found
    assert batch.images is None
    assert batch.videos is not None
    assert batch.videos.shape == (2, 3, 3, 8, 8)
    assert sorted(batch.captions) == ["more words", "words"]
    assert not torch.equal(batch.videos[:, 0], batch.videos[:, 2])
    assert found.skipped == {"a picture among videos": 1, "unreadable video": 2}


def test_memory_is_bounded_by_the_workers(tmp_path: Path) -> None:
    dataset = open_dataset(small_sets.captioned_folder(tmp_path / "d", 60))
    made, lock = [0], threading.Lock()

    def prepare(item: object) -> object:
        with lock:
            made[0] += 1
        return item

    stream: Iterator[object] = iter(dataset.stream(prepare, workers=2, epochs=1))
    next(stream)
    threading.Event().wait(0.3)
    assert made[0] <= 10
    stream.close()  # type: ignore[attr-defined]


def test_an_incomplete_last_batch_is_dropped_and_sizes_are_checked(tmp_path: Path) -> None:
    path = small_sets.shards(tmp_path / "d", 9)
    assert [len(batch) for batch in open_batches(path, 4, epochs=1)] == [4, 4]
    with pytest.raises(ConfigError, match="batch_size"):
        open_batches(path, 0)
