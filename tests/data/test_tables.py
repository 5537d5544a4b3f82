"""CSV, TSV and JSONL: rows found by their place, odd rows counted."""

import json
from pathlib import Path

import pytest

from midsight.data.datasets import open_dataset
from midsight.data.samples import Sample
from midsight.errors import InputError


def read(path: Path) -> tuple[dict[str, Sample], dict[str, int]]:
    stream = open_dataset(path).samples(epochs=1)
    return {sample.key: sample for sample in stream}, dict(stream.skipped)


def test_csv_with_quotes_line_breaks_blank_lines_and_a_byte_order_mark(tmp_path: Path) -> None:
    rows = 'image,note,caption\r\na.png,,"two\r\nlines, ""quoted"""\r\n\r\nb.png,x,größe\r\n/c/d.mp4,,last'
    path = tmp_path / "t.csv"
    path.write_bytes(b"\xef\xbb\xbf" + rows.encode())
    found, skipped = read(path)
    assert not skipped
    assert found["t.csv:1"].caption == 'two lines, "quoted"'
    assert found["t.csv:1"].media == tmp_path / "a.png"
    assert found["t.csv:2"].caption == "größe"
    assert (found["t.csv:3"].media, found["t.csv:3"].kind) == (Path("/c/d.mp4"), "video")


def test_tsv_and_class_labels(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("file_name\tlabel\na.png\tred fox\n")
    assert read(tmp_path / "t.tsv")[0]["t.tsv:1"].caption == "red fox"


def test_odd_rows_are_counted_by_reason(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"image,caption\na.png\n,words\na.png, \na.doc,words\na.png,caf\xe9\na.png,good\n")
    found, skipped = read(tmp_path / "t.csv")
    assert list(found) == ["t.csv:6"]
    assert skipped == {
        "broken row": 1, "missing path": 1, "missing caption": 1, "neither picture nor video": 1, "not UTF-8": 1,
    }  # fmt: skip
    lines = ("{", "[]", '{"image": "a.png"}', '{"image": 3, "caption": "x"}', "", '{"image": "a.png", "caption": "x"}')
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    found, skipped = read(tmp_path / "t.jsonl")
    assert list(found) == ["t.jsonl:5"]
    assert skipped == {"broken row": 2, "missing caption": 1, "missing path": 1}


def test_a_missing_quotation_mark_does_not_hide_the_rest_in_silence(tmp_path: Path) -> None:
    filler = "".join(f"b{k}.png,some words that are of no matter here\n" for k in range(5000))
    (tmp_path / "t.csv").write_text('image,caption\na.png,"open\n' + filler)
    found, skipped = read(tmp_path / "t.csv")
    assert skipped == {"broken row": 1}
    assert 0 < len(found) < 5000


def test_json_depth_and_length_are_bounded(tmp_path: Path) -> None:
    long = json.dumps({"image": "a.png", "caption": "x" * (1 << 21)})
    good = json.dumps({"image": "a.png", "caption": "x"})
    (tmp_path / "t.jsonl").write_text("\n".join(("[" * 100_000, long, good)))
    assert read(tmp_path / "t.jsonl")[1] == {"broken row": 2}


def test_tables_without_rows_or_columns(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("image,caption\n")
    with pytest.raises(InputError, match="empty table"):
        read(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="no column with files"):
        read(tmp_path / "t.csv")
    (tmp_path / "t.jsonl").write_text("")
    with pytest.raises(InputError, match="empty table"):
        read(tmp_path / "t.jsonl")
