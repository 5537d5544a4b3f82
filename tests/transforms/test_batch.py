"""Batches: order kept, failures in their place, memory bounded, threads ended."""

import gc
import io
import threading
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from midsight.configs import PreprocessConfig
from midsight.errors import InputError, MediaError, ShapeError
from midsight.images import Limits
from midsight.transforms import batch as module
from midsight.transforms.batch import BatchOptions, iterate_batches, load_batch
from midsight.transforms.image import from_config

CONFIG = PreprocessConfig(32)
PHOTO = (files("sklearn.datasets") / "images" / "flower.jpg").read_bytes()


def plain(value: int) -> np.ndarray[Any, Any]:
    return np.full((40, 40, 3), value, np.uint8)


def decoders() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("midsight-decode")]


@pytest.mark.parametrize("threads", [0, 1, 3])
@pytest.mark.parametrize("output", ["float32", "uint8"])
@pytest.mark.parametrize("reuse", [False, True])
def test_order_rows_and_pixels(threads: int, output: Any, reuse: bool) -> None:
    sources = [plain(i) for i in range(23)]
    options = BatchOptions(batch_size=5, threads=threads, output=output, reuse=reuse, ahead=2)
    seen = []
    for batch in iterate_batches(sources, CONFIG, options):
        assert batch.images.shape == (len(batch.items), 3, 32, 32)
        assert str(batch.images.dtype) == f"torch.{output}"
        for item in batch.items:
            assert item.row is not None
            assert item.source is sources[item.index]
            value = batch.images[item.row]
            level = value if output == "uint8" else (value + 1) * 127.5
            assert torch.allclose(level.float(), torch.tensor(float(item.index)), atol=1e-4)
            seen.append(item.index)
    assert seen == list(range(23))


def test_every_picture_is_what_the_transform_gives(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(PHOTO)
    sources: list[Any] = [PHOTO, tmp_path / "a.jpg", Image.open(io.BytesIO(PHOTO)), io.BytesIO(PHOTO)]
    for config in (CONFIG, PreprocessConfig(64, "center_crop", "bicubic", (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))):
        expected = from_config(config)(PHOTO)
        sources[3].seek(0)
        batch = load_batch(sources, config)
        assert len(batch.images) == 4
        for image in batch.images:
            torch.testing.assert_close(image, expected)


@pytest.mark.parametrize("threads", [0, 2])
def test_failures_stay_in_their_place(tmp_path: Path, threads: int) -> None:
    (tmp_path / "cut.jpg").write_bytes(PHOTO[:5000])
    sources = [plain(0), tmp_path / "cut.jpg", plain(2), tmp_path / "missing.jpg", np.zeros((1, 1, 9)), plain(5), None]
    batch = load_batch(sources, CONFIG, BatchOptions(threads=threads))
    assert [item.row for item in batch.items] == [0, None, 1, None, None, 2, None]
    assert [type(item.error) for item in batch.failures] == [MediaError, MediaError, ShapeError, InputError]
    assert "cut.jpg" in str(batch.items[1].error)
    assert batch.images.shape == (3, 3, 32, 32)
    assert torch.allclose((batch.images[:, 0, 0, 0] + 1) * 127.5, torch.tensor([0.0, 2.0, 5.0]), atol=1e-4)


def test_a_batch_of_failures_is_empty_and_the_next_one_follows() -> None:
    batches = list(iterate_batches([b"x", b"y", plain(3)], CONFIG, BatchOptions(batch_size=2)))
    assert [len(b.images) for b in batches] == [0, 1]
    assert batches[0].images.shape == (0, 3, 32, 32)
    assert load_batch([], CONFIG).images.shape == (0, 3, 32, 32)
    assert list(iterate_batches([], CONFIG)) == []


def test_running_out_of_memory_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("midsight.transforms.image.load_image", greedy)
    (item,) = load_batch([b"x"], CONFIG).items
    assert "memory" in str(item.error)


def test_limits_and_reduced_decoding_reach_the_decoder() -> None:
    limited = load_batch([PHOTO], CONFIG, BatchOptions(limits=Limits(max_pixels=1000)))
    assert "limit is 1000" in str(limited.items[0].error)
    full, reduced = (load_batch([PHOTO], CONFIG, BatchOptions(reduced_decoding=r)).images for r in (False, True))
    assert 0 < (full - reduced).abs().mean() < 0.05


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_a_generator_is_read_no_further_than_needed(ahead: int) -> None:
    taken = 0

    def endless() -> Iterator[Any]:
        nonlocal taken
        while True:
            assert threading.current_thread() is threading.main_thread()
            taken += 1
            yield plain(taken % 256)

    stream = iterate_batches(endless(), CONFIG, BatchOptions(batch_size=4, threads=2, ahead=ahead))
    for number in range(1, 6):
        next(stream)
        assert taken == 4 * (number + ahead)
    stream.close()  # type: ignore[attr-defined]
    assert decoders() == []


def test_decoding_goes_on_while_the_consumer_works(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    decode = module._decode
    monkeypatch.setattr(module, "_decode", lambda t, s: decoded.append(1) or decode(t, s))
    stream = iterate_batches([plain(i) for i in range(12)], CONFIG, BatchOptions(batch_size=4, threads=1, ahead=1))
    next(stream)
    deadline = time.monotonic() + 10
    while len(decoded) < 8 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(decoded) == 8
    assert sum(len(b.items) for b in stream) == 8


def test_errors_of_the_source_and_of_the_consumer_end_the_threads() -> None:
    def failing() -> Iterator[Any]:
        yield plain(1)
        raise RuntimeError("of the generator")

    with pytest.raises(RuntimeError, match="of the generator"):
        list(iterate_batches(failing(), CONFIG, BatchOptions(batch_size=1, threads=2)))
    stream = iterate_batches([plain(1)] * 50, CONFIG, BatchOptions(batch_size=2, threads=2))
    next(stream)
    del stream
    gc.collect()
    assert decoders() == []


def test_memory_is_used_again_only_when_asked() -> None:
    sources = [plain(i) for i in range(6)]
    for reuse in (False, True):
        stream = iterate_batches(sources, CONFIG, BatchOptions(batch_size=2, reuse=reuse))
        kept = [batch.images for batch in stream]
        assert (kept[0].data_ptr() == kept[1].data_ptr()) is reuse
    fresh = [b.images for b in iterate_batches(sources, CONFIG, BatchOptions(batch_size=2))]
    assert torch.allclose((fresh[0][0] + 1) * 127.5, torch.tensor(0.0), atol=1e-4)


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"threads": -1}, {"ahead": -1}, {"output": "float16"}])
def test_options_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        BatchOptions(**wrong)
