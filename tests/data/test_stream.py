"""Order, shares and resuming, for every kind of data set."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from midsight.data.datasets import open_dataset
from midsight.data.stream import Order
from midsight.errors import ConfigError, InputError

Make = Callable[[Path, int], Path]


def keys(path: Path, order: Order | None = None, epochs: int = 1) -> list[str]:
    return [sample.key for sample in open_dataset(path).samples(order, epochs=epochs)]


def test_an_epoch_has_every_sample_once(make: Make, tmp_path: Path) -> None:
    path = make(tmp_path / "data", 30)
    found = list(open_dataset(path).samples(Order(window=2), epochs=1))
    assert sorted(sample.caption for sample in found) == sorted(f"caption {k}" for k in range(30))
    assert len({sample.key for sample in found}) == 30


def test_order_follows_seed_and_epoch(make: Make, tmp_path: Path) -> None:
    path = make(tmp_path / "data", 30)
    two_epochs = keys(path, Order(seed=1), 2)
    assert keys(path, Order(seed=1), 2) == two_epochs
    assert two_epochs[:30] != two_epochs[30:]
    assert keys(path, Order(seed=2)) != two_epochs[:30]
    assert keys(path, Order(shuffle=False)) == sorted(two_epochs[:30], key=_natural)


def _natural(key: str) -> tuple[int, str]:
    return len(key), key


@pytest.mark.parametrize("ranks", [2, 3])
def test_shares_neither_overlap_nor_lose(make: Make, tmp_path: Path, ranks: int) -> None:
    path = make(tmp_path / "data", 31)
    shares = [keys(path, Order(window=2, rank=rank, ranks=ranks)) for rank in range(ranks)]
    assert sorted(itertools.chain(*shares)) == sorted(keys(path))
    assert all(len(share) >= 31 // ranks - 3 for share in shares)


@pytest.mark.parametrize("rank", [0, 1])
def test_resumes_at_the_exact_sample(make: Make, tmp_path: Path, rank: int) -> None:
    order = Order(seed=3, window=2, rank=rank, ranks=2)
    path = make(tmp_path / "data", 16)
    whole = keys(path, order, 3)
    for stop in range(1, len(whole)):
        stream = open_dataset(path).samples(order, epochs=3)
        before = [sample.key for sample in itertools.islice(stream, stop)]
        state = json.loads(json.dumps(stream.state()))
        again = open_dataset(path).samples(order, epochs=3)
        again.resume(state)
        assert before + [sample.key for sample in again] == whole


def test_the_same_stream_goes_on_where_its_iterator_was_left(tmp_path: Path, make: Make) -> None:
    path = make(tmp_path / "data", 9)
    stream = open_dataset(path).samples(epochs=1)
    first = [sample.key for sample in itertools.islice(stream, 4)]
    assert first + [sample.key for sample in stream] == keys(path)


def test_left_out_samples_are_counted_once_over_a_stop(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"")
    for k in range(12):
        (folder / f"{k:02d}.png").write_bytes(b"-")
        if k % 3:
            (folder / f"{k:02d}.txt").write_text("words")
    whole = open_dataset(folder).samples(epochs=1)
    assert len(list(whole)) == 8
    assert whole.skipped == {"missing caption": 5}
    assert "5 left out: missing caption" in whole.report()
    for stop in range(1, 8):
        stream = open_dataset(folder).samples(epochs=1)
        list(itertools.islice(stream, stop))
        again = open_dataset(folder).samples(epochs=1)
        again.resume(stream.state())
        list(again)
        assert (again.skipped, again.taken) == (whole.skipped, 8)


def test_a_changed_data_set_is_refused(make: Make, tmp_path: Path) -> None:
    path = make(tmp_path / "data", 10)
    state = open_dataset(path).samples().state()
    folder = path if path.is_dir() else path.parent
    if path.is_dir():
        next(iter(sorted(folder.iterdir()))).unlink()
    else:
        path.write_bytes(path.read_bytes().replace(b"caption", b"Caption", 1).replace(b"0001", b"0002"))
    with pytest.raises(InputError, match="changed since"):
        open_dataset(path).samples().resume(state)


def test_the_same_data_at_another_place_resume(make: Make, tmp_path: Path) -> None:
    path = make(tmp_path / "data", 10)
    state = open_dataset(path).samples().state()
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    moved = Path(str(path).replace("/data", "/elsewhere"))
    open_dataset(moved).samples().resume(state)


def test_another_order_and_a_foreign_state_are_refused(tmp_path: Path, make: Make) -> None:
    stream = open_dataset(make(tmp_path / "data", 3)).samples()
    with pytest.raises(InputError, match="saved with"):
        stream.resume(stream.state() | {"order": {"seed": 8}})
    with pytest.raises(InputError, match="not the state"):
        stream.resume({"epoch": 1})
    with pytest.raises(ConfigError, match="rank"):
        Order(rank=2, ranks=2)


@pytest.mark.parametrize("epochs", [1, None])
def test_a_data_set_without_a_usable_sample_ends_with_the_reasons(tmp_path: Path, epochs: int | None) -> None:
    (tmp_path / "x.png").write_bytes(b"")
    with pytest.raises(InputError, match="missing caption"):
        list(open_dataset(tmp_path).samples(epochs=epochs))


def test_more_processes_than_samples_take_turns(tmp_path: Path, make: Make) -> None:
    path = make(tmp_path / "data", 2)
    for rank in range(3):
        assert len(list(itertools.islice(open_dataset(path).samples(Order(rank=rank, ranks=3)), 4))) == 4


def test_a_failure_that_is_no_bad_sample_is_not_swallowed(tmp_path: Path, make: Make) -> None:
    def prepare(_: object) -> None:
        raise RuntimeError("a mistake in the code")

    with pytest.raises(RuntimeError, match="mistake"):
        list(open_dataset(make(tmp_path / "data", 3)).stream(prepare))
