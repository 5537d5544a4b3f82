"""Kept tokens: memory and disk agree, also beyond half precision; progress outlives the process."""

from pathlib import Path

import numpy as np
import pytest
import torch

from midsight.errors import ConfigError, InputError, OutputError
from midsight.evaluate.layer_store import Shape, StoreLimits, TokenStore

SHAPE = Shape(pictures=4, layers=2, tokens=3, width=5, target=6)
DISK = StoreLimits(memory_gib=0)


def test_disk_and_memory_agree_also_where_values_are_large(tmp_path: Path) -> None:
    values = torch.randn(4, 2, 3, 5)
    values[1] *= 1e6  # beyond half precision
    targets = np.random.default_rng(0).integers(0, 256, (4, 6, 6)).astype(np.uint8)
    stores = [TokenStore(SHAPE, StoreLimits(), None, "a"), TokenStore(SHAPE, DISK, tmp_path, "a")]
    assert [store.on_disk for store in stores] == [False, True]
    for store in stores:
        store.write(0, values[:3], targets[:3])
        store.write(3, values[3:], targets[3:])
        store.advance(4, {2: "bad"})
        assert store.good == [0, 1, 3]
        found = store.tokens([3, 1], slice(1, 2))  # l, B, T, W
        assert found.shape == (1, 2, 3, 5)
        torch.testing.assert_close(found[0], values[[3, 1], 1], rtol=2e-3, atol=1e-3)
        np.testing.assert_array_equal(store.targets([3]).numpy(), targets[3:])
    torch.testing.assert_close(stores[0].tokens([0])[:, 0], values[0], rtol=0, atol=0)


def test_progress_is_found_again_and_other_features_are_not_mixed_in(tmp_path: Path) -> None:
    values = torch.ones(2, 2, 3, 5)
    first = TokenStore(SHAPE, DISK, tmp_path, "a")
    first.write(0, values)
    first.advance(3, {2: "broken"})
    again = TokenStore(SHAPE, DISK, tmp_path, "a")
    assert (again.done, again.bad) == (3, {2: "broken"})
    torch.testing.assert_close(again.tokens([0, 1]).transpose(0, 1), values)
    assert TokenStore(SHAPE, DISK, tmp_path, "b").done == 0
    (tmp_path / "a.json").write_text('{"done": ')
    assert TokenStore(SHAPE, DISK, tmp_path, "a").done == 0


def test_limits(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder is named for files"):
        TokenStore(SHAPE, DISK, None, "a")
    with pytest.raises(InputError, match="0 GiB of disk. Allow more"):
        TokenStore(SHAPE, StoreLimits(0, 0), tmp_path, "a")
    with pytest.raises(ConfigError):
        StoreLimits(memory_gib=-1)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be kept there"):
        TokenStore(SHAPE, DISK, tmp_path / "file", "a")
