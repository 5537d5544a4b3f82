"""Rows of training files: every kind of medium, boxes, and each way in which a row can be unusable."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from midsight.data.conversations import RowStream, open_rows
from midsight.data.samples import BadSample
from midsight.images import Limits
from midsight.plm.media import MediaLimits
from midsight.plm.rows import LearntRow, RowReader
from midsight.video import sample_seconds
from tests.plm import tiny
from tests.plm.conversations import MEDIA, picture, question, write_rows


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> RowReader:
    tokenizer = tiny.write_tokenizer(tmp_path_factory.mktemp("tokenizer"))
    return RowReader(tiny.config(tokenizer), tokenizer, 200)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    picture(folder / "wide.png", "red", (224, 56))
    picture(folder / "small.png", "blue")
    (folder / "broken.png").write_bytes((folder / "small.png").read_bytes()[:90])
    return folder


def images_of(row: LearntRow, reader: RowReader) -> int:
    return int((row.input_ids == reader.config.image_token_id).sum())


def test_one_image_is_tiled_and_of_several_each_is_squashed(reader: RowReader, root: Path) -> None:
    one = reader.read("k", question("What?", "red", image="wide.png"), root)
    assert one.tiles is not None
    assert len(one.tiles) == 5  # four tiles and a thumbnail
    assert images_of(one, reader) == 5 * 4
    two = reader.read("k", question("<image> or <image>?", "the first", image=["wide.png", "small.png"]), root)
    assert two.tiles is not None
    assert two.tiles.shape == (2, 3, 56, 56)
    assert images_of(two, reader) == 2 * 4
    assert torch.equal(two.tiles[0], one.tiles[0])  # the thumbnail is the squash
    answer = [int(i) for i, label in zip(two.input_ids, two.labels, strict=True) if label != -100]
    assert "the first" in reader.tokenizer.decode(answer)


def test_texts_alone_and_captions(reader: RowReader, root: Path) -> None:
    plain = reader.read("k", question("Two and two?", "four"), root)
    assert plain.tiles is None
    assert images_of(plain, reader) == 0
    caption = reader.read("k", {"text": "a blue wall", "image": "small.png"}, root)
    assert caption.tiles is not None
    assert "a blue wall" in reader.tokenizer.decode(caption.input_ids.tolist())
    warmup = RowReader(reader.config, reader.tokenizer, 200, "warmup").read(
        "k", question("ignored", "a wall", image="small.png"), root
    )
    assert reader.tokenizer.decode(warmup.input_ids[-5:].tolist()).endswith("wall\n")
    assert "ignored" not in reader.tokenizer.decode(warmup.input_ids.tolist())


def test_a_part_of_a_video_with_boxes_on_its_frames(reader: RowReader) -> None:
    """The red box stands on the frames that it is given for, and on no other."""
    record = question("What is in the box?", "a thing", video="b_frames.mp4", start_time=0.0, end_time=0.5)
    plain = reader.read("k", record, MEDIA)
    clip = sample_seconds(MEDIA / "b_frames.mp4", 4, start=0.0, end=0.5)
    assert plain.tiles is not None
    assert len(plain.tiles) == len(clip.indices) == 4
    height, width = clip.frames.shape[1:3]
    drawn_on = int(clip.indices[2])
    boxes = {str(drawn_on): [0, 0, width - 1, height - 1], "99999": [0, 0, 5, 5]}
    boxed = reader.read("k", record | {"bbox_map": boxes}, MEDIA)
    assert boxed.tiles is not None
    same = [bool(torch.equal(a, b)) for a, b in zip(plain.tiles, boxed.tiles, strict=True)]
    assert same == [True, True, False, True]
    first_row = boxed.tiles[2][:, 0].mean(1)  # three channels of the upper edge
    assert first_row[0] > 0.5
    assert first_row[1] < -0.5
    assert first_row[2] < -0.5


def test_boxes_in_texts(reader: RowReader, root: Path) -> None:
    row = question("Where?", "at <|bbox0|>", image="small.png", bbox=[[30, 10, 15, 20]], width=60, height=40)
    read = reader.read("k", row, root)
    assert "[500,250,750,750]" in reader.tokenizer.decode(read.input_ids.tolist())


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"image": "small.png"}, "malformed row"),
        (question("a", "b", image="none.png"), "missing media"),
        (question("a", "b", image="broken.png"), "unreadable media"),
        (question("a", "b", image="wide.png", video="x.mp4"), "malformed row"),
        (question("a", "b", image=7), "malformed row"),
        (question("a", "b", video="small.png"), "malformed row"),
        (question("a", "b", image="small.png", bbox_map=[1]), "malformed row"),
        (question("a", "b", image="small.png", start_time="now"), "malformed row"),
        (question("a", "b", image="small.png", start_time=3, end_time=1), "malformed row"),
        (question("<image>", "b", image=["small.png", "small.png"]), "malformed row"),
        (question("a", "<|bbox3|>", image="small.png", bbox=[], width=4, height=4), "malformed row"),
        ({"conversations": [{"from": "robot", "value": "x"}]}, "malformed row"),
        (question("word " * 200, "b"), "does not fit"),
        (question("a", "word " * 300), "does not fit"),
    ],
)
def test_each_unusable_row_has_its_reason(reader: RowReader, root: Path, record: Any, reason: str) -> None:
    with pytest.raises(BadSample, match="^file:3: ") as found:
        reader.read("file:3", record, root)
    assert found.value.reason == reason


def test_pictures_of_too_many_pixels_are_left_out(reader: RowReader, root: Path) -> None:
    """By our own limit, and a bomb, which says that it has 900 million of them."""
    strict = RowReader(reader.config, reader.tokenizer, 200, limits=MediaLimits(images=Limits(max_pixels=100)))
    header = b"IHDR" + struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    (root / "bomb.png").write_bytes(bomb + (root / "small.png").read_bytes()[33:])
    for given, name in ((strict, "small.png"), (reader, "bomb.png")):
        with pytest.raises(BadSample, match="pixels") as found:
            given.read("k", question("a", "b", image=name), root)
        assert found.value.reason == "beyond the limits"


def test_unusable_rows_are_counted_and_passed_over(reader: RowReader, root: Path) -> None:
    rows = [question("a", "b"), "{broken", question("a", "b", image="none.png"), question("c", "d"), "[1]"]
    path = write_rows(root / "rows.jsonl", rows)
    stream = RowStream([open_rows(path)], reader, shuffle=False)
    found = iter(stream)
    keys = [next(found).key for _ in range(4)]
    assert keys == ["rows.jsonl:1", "rows.jsonl:4"] * 2
    assert stream.skipped["broken row"] >= 2
    assert stream.skipped["missing media"] >= 1
    assert np.isfinite(stream.taken)
