"""Data that stay in memory: the same samples, an order by seed, exact states."""

import itertools
import json
from pathlib import Path

import pytest
import torch

from midsight.configs import PreprocessConfig
from midsight.data.datasets import open_dataset
from midsight.data.loader import TrainBatch
from midsight.data.resident import Resident, ResidentBatches, read_resident
from midsight.data.samples import UnusableError
from midsight.data.stream import Order
from midsight.errors import ConfigError, InputError
from midsight.transforms import get_text_tokenizer
from midsight.transforms.augment import AugmentConfig
from midsight.transforms.batched import BatchTransform
from tests.data import small_sets


def colours(count: int) -> Resident:
    """Pictures that can be told apart, with captions of their number."""
    pixels = torch.randint(0, 256, (count, 3, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Resident(pixels, tuple(f"number {k}" for k in range(count)), tuple(f"k{k}" for k in range(count)), {})


def batches(data: Resident, size: int = 4, order: Order | None = None, resume: object = None) -> ResidentBatches:
    transform = BatchTransform(PreprocessConfig(8), AugmentConfig(), 5)
    return ResidentBatches(data, transform, get_text_tokenizer(8), size, order or Order(3), resume)  # type: ignore[arg-type]


def take(found: ResidentBatches, count: int) -> list[TrainBatch]:
    return list(itertools.islice(found, count))


def test_a_data_set_is_read_whole_and_bad_samples_are_counted(tmp_path: Path) -> None:
    folder = small_sets.captioned_folder(tmp_path / "d", 9)
    (folder / "0004.png").write_bytes(b"junk")
    data = read_resident(open_dataset(folder), 10)
    assert data.pixels.shape == (8, 3, 10, 10)
    assert data.captions == tuple(f"caption {k}" for k in range(9) if k != 4)
    assert data.skipped == {"unreadable picture": 1}
    assert read_resident(open_dataset(folder), 10).fingerprint == data.fingerprint
    assert read_resident(open_dataset(folder), 11).fingerprint != data.fingerprint


def test_nothing_to_read_is_told(tmp_path: Path) -> None:
    folder = small_sets.captioned_folder(tmp_path / "d", 2)
    for path in folder.glob("*.png"):
        path.write_bytes(b"junk")
    with pytest.raises(UnusableError):
        read_resident(open_dataset(folder), 10)


def test_an_epoch_has_every_sample_once_and_processes_share_it() -> None:
    data = colours(12)
    orders = [Order(3, rank=rank, ranks=2) for rank in range(2)]
    seen = [key for order in orders for batch in take(batches(data, 3, order), 2) for key in batch.keys]
    assert sorted(seen) == sorted(data.keys)
    first, second = take(batches(data, 12), 2)
    assert sorted(first.keys) == sorted(second.keys) == sorted(data.keys)
    assert first.keys != second.keys != data.keys
    assert first.keys != take(batches(data, 12, Order(4)), 1)[0].keys


def test_rows_belong_together_and_another_epoch_varies_them() -> None:
    data, tokenizer = colours(6), get_text_tokenizer(8)
    first, second = take(batches(data, 6), 2)
    assert first.images is not None
    assert second.images is not None
    assert torch.equal(first.texts, tokenizer(list(first.captions)))
    rows = [data.keys.index(key) for key in first.keys]
    assert first.captions == tuple(data.captions[row] for row in rows)
    expected = BatchTransform(PreprocessConfig(8), AugmentConfig(), 5)(
        data.pixels[rows], [f"0/{k}" for k in first.keys]
    )
    assert torch.equal(first.images, expected)
    again = second.images[[second.keys.index(key) for key in first.keys]]
    assert (again - first.images).abs().mean() > 0.1


@pytest.mark.parametrize("done", [1, 2, 3, 5])
def test_a_state_goes_on_at_the_next_batch(done: int) -> None:
    data = colours(14)  # three batches of four an epoch, two samples left over
    straight = take(batches(data), 7)
    stopped = batches(data)
    take(stopped, done)
    rest = take(batches(data, resume=json.loads(json.dumps(stopped.state()))), 7 - done)
    for found, expected in zip(rest, straight[done:], strict=True):
        assert found.keys == expected.keys
        assert found.images is not None
        assert expected.images is not None
        assert torch.equal(found.images, expected.images)


def test_what_does_not_fit_is_told() -> None:
    with pytest.raises(ConfigError, match=r"data\.batch_size: 8 rows, but .* has 6 samples"):
        batches(colours(6), 8)
    with pytest.raises(InputError, match="2 pictures, 1 captions"):
        Resident(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), ("a",), ("a", "b"), {})
