"""Rows in any order and more than once, to parts in which each is there once."""

import random
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from midsight.library.jobs.collect import Collector
from midsight.library.jobs.inputs import Input, Part

DIM = 2
Line = tuple[int, int, int, bool, str | None]  # part, input, entry, last, error


def part(number: int, size: int) -> Part:
    return Part(number, f"part-{number}", tuple(Input(f"{number}/{i}", "", "") for i in range(size)))


def table(lines: list[Line]) -> Any:
    values = np.array([[number, at + entry / 10] for number, at, entry, _, _ in lines], np.float32).ravel()
    columns = {name: [line[i] for line in lines] for i, name in enumerate(("part", "input", "entry", "last"))}
    return pa.table(
        columns
        | {
            "start": pa.array([float(line[2]) for line in lines]),
            "end": pa.array([None] * len(lines), pa.float64()),
            "error": pa.array([line[4] for line in lines], pa.string()),
            "embedding": pa.FixedSizeListArray.from_arrays(values, DIM),
        }
    )


@given(st.integers(0, 2**32 - 1), st.integers(1, 7))
def test_order_and_repetition_change_nothing(seed: int, rows: int) -> None:
    draw = random.Random(seed)
    parts = {number: part(number, size) for number, size in ((3, 2), (5, 3))}
    lines: list[Line] = []
    for number, one in parts.items():
        for at in range(len(one.inputs)):
            count = draw.randint(1, 3)
            lines += [(number, at, e, e == count - 1, "bad" if draw.random() < 0.2 else None) for e in range(count)]
    expected = {n: [line for line in sorted(lines) if line[0] == n] for n in parts}
    sent = lines + draw.choices(lines, k=draw.randint(0, 9))
    draw.shuffle(sent)
    collector, new, whole = Collector(DIM), 0, {}
    for first in range(0, len(sent), rows):
        for one, block, fresh in collector.add(table(sent[first : first + rows]), parts):
            new += len(fresh)
            if block is not None:
                assert one.number not in whole
                whole[one.number] = block
    assert new == len(lines)
    assert set(whole) == set(parts)
    for number, block in whole.items():
        found = [(row.path, row.start, row.error) for row in block.rows]
        assert found == [(f"{number}/{at}", float(entry), error) for _, at, entry, _, error in expected[number]]
        good = [[number, at + entry / 10] for _, at, entry, _, error in expected[number] if error is None]
        np.testing.assert_allclose(block.embeddings, np.array(good, np.float32).reshape(-1, DIM))


def test_a_part_waits_for_all_of_its_rows() -> None:
    parts, collector = {0: part(0, 2)}, Collector(DIM)
    for line in [(0, 0, 0, True, None), (0, 1, 2, True, None), (0, 1, 0, False, None)]:
        ((_, block, rows),) = collector.add(table([line]), parts)
        assert block is None
        assert len(rows) == 1
    ((_, block, _),) = collector.add(table([(0, 1, 1, False, None)]), parts)
    assert block is not None
    assert [row.start for row in block.rows] == [0.0, 0.0, 1.0, 2.0]


def test_a_second_try_that_ends_otherwise_adds_nothing() -> None:
    parts, collector = {0: part(0, 2)}, Collector(DIM)
    list(collector.add(table([(0, 0, 0, True, "timed out")]), parts))
    assert list(collector.add(table([(0, 0, 0, False, None), (0, 0, 1, True, None)]), parts)) == []
    ((_, block, _),) = collector.add(table([(0, 1, 0, True, None)]), parts)
    assert block is not None
    assert [row.error for row in block.rows] == ["timed out", None]
