"""The two stages as plain functions; `test_job` has them on a cluster."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

import midsight
from midsight.errors import InputError
from midsight.library.jobs import stages
from midsight.library.jobs.decoder import Reading
from midsight.library.jobs.stages import NOT_FINITE, Embed, Model, decode, halving

CLIP = next((Path(midsight.__file__).parent / "assets" / "demo").glob("*.mp4"))


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{i}.png" for i in range(4)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(path)
    paths[2].write_bytes(b"broken")
    return [*paths, CLIP, tmp_path / "missing.png"]


def inputs(files: list[Path]) -> Any:
    return pa.table(
        {
            "part": pa.array([7] * len(files), pa.int32()),
            "input": pa.array(range(len(files)), pa.int32()),
            "name": [path.name for path in files],
            "place": pa.array([bytes(path) for path in files], pa.binary()),
        }
    )


def test_rows_are_those_of_iter_embed(tiny_folder: Path, tiny_model: midsight.Perception, files: list[Path]) -> None:
    reading = Reading(tiny_model.preprocess, num_frames=2, segment_seconds=2.0)
    embed = Embed(Model(str(tiny_folder), device="cpu"), tiny_model.identity, batch_size=2)
    decoded = list(decode(inputs(files), reading, frames_at_once=3))
    stages.DECODERS.pop(reading).close()
    assert [table["frames"].to_pylist() for table in decoded] == [[1, 1, 0], [1, 2], [2, 2], [0]]
    rows = [row for table in decoded for row in embed(table).to_pylist()]
    expected = list(tiny_model.iter_embed(files, num_frames=2, segment_seconds=2.0))
    assert [(row["part"], row["input"], row["start"], row["end"]) for row in rows] == [
        (7, outcome.index, outcome.start, outcome.end) for outcome in expected
    ]
    assert [row["last"] for row in rows] == [True, True, True, True, False, False, True, True]
    for row, outcome in zip(rows, expected, strict=True):
        if outcome.value is None:
            assert row["error"] == str(outcome.error).replace(str(outcome.source), outcome.source.name)
        else:
            np.testing.assert_allclose(row["embedding"], outcome.value, atol=1e-6)


def test_other_weights_under_the_same_name_are_refused(tiny_folder: Path) -> None:
    with pytest.raises(InputError, match="not those of the machine that started the job"):
        Embed(Model(str(tiny_folder), device="cpu"), "another identity")


def test_a_moments_fault_costs_a_second_try() -> None:
    sizes = []

    def encode(clips: list[int]) -> list[Any]:
        sizes.append(len(clips))
        if len(sizes) == 1:
            raise RuntimeError("a moment's fault")
        return [np.full(1, clip) for clip in clips]

    assert [float(found[0]) for found in halving(encode, [1, 2, 3])] == [1, 2, 3]
    assert sizes == [3, 3]
    assert halving(encode, []) == []


def test_too_large_a_batch_ends_in_smaller_ones() -> None:
    def encode(clips: list[int]) -> list[Any]:
        if len(clips) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [np.full(1, clip) for clip in clips]

    assert [float(found[0]) for found in halving(encode, list(range(9)))] == list(range(9))


def test_a_clip_that_always_fails_costs_itself() -> None:
    def encode(clips: list[int]) -> list[Any]:
        if 4 in clips:
            raise ValueError("four")
        return [None if clip == 0 else np.full(1, clip) for clip in clips]

    found = halving(encode, list(range(6)))
    assert found[0] == NOT_FINITE
    assert found[4] == "the encoder failed on it (ValueError: four)"
    assert [float(found[i][0]) for i in (1, 2, 3, 5)] == [1, 2, 3, 5]


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (RuntimeError("CUDA error: an illegal memory access was encountered"), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), False),
        (RuntimeError("CUDA error: out of memory"), False),
        (ValueError("a shape"), False),
    ],
)
def test_what_only_a_new_process_gets_rid_of(error: Exception, lost: bool) -> None:
    assert stages._device_is_lost(error) is lost
