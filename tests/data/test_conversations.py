"""Files of rows: mixed by weight, every row once an epoch, the same whatever the number of processes, resumable."""

from collections import Counter
from pathlib import Path

import pytest

from midsight.data.conversations import Drawn, RowStream, open_rows
from midsight.data.datasets import EVALUATION_MARK
from midsight.data.samples import BadSample, UnusableError
from midsight.errors import ConfigError, InputError
from tests.plm.conversations import write_rows


def rows(folder: Path, name: str, count: int) -> Path:
    return write_rows(folder / f"{name}.jsonl", [{"text": f"{name} {index}"} for index in range(count)])


def text(drawn: Drawn) -> str:
    return str(drawn.read()[1]["text"])


def taken(stream: "RowStream[str]", count: int) -> list[str]:
    found = iter(stream)
    return [next(found) for _ in range(count)]


def test_each_row_comes_once_an_epoch_and_in_another_order_in_the_next(tmp_path: Path) -> None:
    stream = RowStream([open_rows(rows(tmp_path, "a", 9))], text, seed=3)
    first, second = taken(stream, 9), taken(stream, 9)
    assert sorted(first) == sorted(second) == [f"a {index}" for index in range(9)]
    assert first != second
    assert first != sorted(first)


def test_weights_say_how_often_a_file_is_drawn_from(tmp_path: Path) -> None:
    files = [open_rows(rows(tmp_path, "a", 5), weight=3.0), open_rows(rows(tmp_path, "b", 50), weight=1.0)]
    counts = Counter(found[0] for found in taken(RowStream(files, text), 4000))
    assert 0.72 < counts["a"] / 4000 < 0.78
    assert open_rows(tmp_path / "b.jsonl").weight == 50


@pytest.mark.parametrize("ranks", [2, 3])
def test_processes_share_the_rows_of_one(tmp_path: Path, ranks: int) -> None:
    files = [open_rows(rows(tmp_path, "a", 5)), open_rows(rows(tmp_path, "b", 8))]
    alone = taken(RowStream(files, text, seed=1), 30)
    shares = [taken(RowStream(files, text, seed=1, rank=rank, ranks=ranks), 30 // ranks) for rank in range(ranks)]
    assert [share[step] for step in range(30 // ranks) for share in shares] == alone


def test_a_stream_goes_on_at_the_exact_row(tmp_path: Path) -> None:
    files = [open_rows(rows(tmp_path, "a", 5), weight=2), open_rows(rows(tmp_path, "b", 8), weight=1)]

    def picky(drawn: Drawn) -> str:
        if drawn.row == 2:
            raise BadSample("two", f"row {drawn.row}")
        return text(drawn)

    whole = RowStream(files, picky, seed=1, workers=3)
    expected = taken(whole, 25)
    stream = RowStream(files, picky, seed=1, workers=2)
    begun = taken(stream, 10)
    other = RowStream(files, picky, seed=1)
    other.resume(stream.state())
    assert begun + taken(other, 15) == expected
    assert other.skipped == whole.skipped == {"two": whole.skipped["two"]}
    assert whole.skipped["two"] > 2
    assert "left out: two (row 2)" in whole.report()


def test_a_changed_set_or_order_is_not_resumed(tmp_path: Path) -> None:
    path = rows(tmp_path, "a", 5)
    stream = RowStream([open_rows(path)], text)
    taken(stream, 3)
    state = stream.state()
    with pytest.raises(InputError, match="saved with .*Start anew"):
        RowStream([open_rows(path)], text, seed=1).resume(state)
    with pytest.raises(InputError, match="not the state"):
        RowStream([open_rows(path)], text).resume({"draw": 3})
    write_rows(path, [{"text": "another"}] * 5)
    with pytest.raises(InputError, match="the data sets changed"):
        RowStream([open_rows(path)], text).resume(state)


def test_a_set_without_a_usable_row_says_so(tmp_path: Path) -> None:
    def bad(drawn: Drawn) -> str:
        raise BadSample("missing media", f"row {drawn.row}: no file")

    with pytest.raises(UnusableError, match=r"no row .* left out: missing media \(row \d: no file\)"):
        next(iter(RowStream([open_rows(rows(tmp_path, "a", 4))], bad)))


def test_what_is_no_file_of_rows_is_refused(tmp_path: Path) -> None:
    path = rows(tmp_path, "a", 2)
    with pytest.raises(InputError, match="no such file"):
        open_rows(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="not a JSONL file"):
        open_rows(tmp_path)
    with pytest.raises(InputError, match="has no rows"):
        open_rows(write_rows(tmp_path / "empty.jsonl", []))
    with pytest.raises(InputError, match="no such folder"):
        open_rows(path, tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="weight must be 0"):
        open_rows(path, weight=-1)
    with pytest.raises(ConfigError, match="no data set"):
        RowStream([], text)
    (tmp_path / EVALUATION_MARK).touch()
    with pytest.raises(InputError, match="evaluation only"):
        open_rows(path)
