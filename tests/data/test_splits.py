"""Held-out parts: by content, of each class, never trained, whatever the data set is."""

import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from midsight.data.datasets import Dataset, open_dataset
from midsight.data.samples import UnusableError
from midsight.data.shards import ShardWriter
from midsight.data.splits import Split, content_of, split
from midsight.errors import InputError


def picture(path: Path, number: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(path)
    return path


def classes(root: Path, counts: dict[str, int]) -> Path:
    for place, (name, count) in enumerate(counts.items()):
        for number in range(count):
            picture(root / name / f"{number}.png", 1000 * place + number)
    return root


def contents(dataset: Dataset | None) -> list[str]:
    assert dataset is not None
    return sorted(content_of(sample) for sample in dataset.samples(epochs=1))


def test_each_class_gives_its_share_and_nothing_is_on_both_sides(tmp_path: Path) -> None:
    whole = open_dataset(classes(tmp_path, {"red_fox": 10, "owl": 2, "mole": 1}))
    found = split(whole, 0.2)
    assert whole.classes
    assert found.train.classes
    assert found.captions == ("mole", "owl", "red fox")
    assert found.alone == ("mole",)
    held = [sample.caption for sample in found.held_out.samples(epochs=1)]  # type: ignore[union-attr]
    assert sorted(held) == ["owl", "red fox", "red fox"]
    assert found.samples == 10
    assert not set(contents(found.train)) & set(contents(found.held_out))
    assert sorted(contents(found.train) + contents(found.held_out)) == contents(whole)


def test_names_and_order_do_not_matter_only_content(tmp_path: Path) -> None:
    one = split(open_dataset(classes(tmp_path / "one", {"a": 8, "b": 8})), 0.25)
    files = sorted((tmp_path / "one").rglob("*.png"))
    for path in files:
        name = f"{random.Random(str(path)).random()}.png"
        (tmp_path / "other" / path.parent.name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "other" / path.parent.name / name).write_bytes(path.read_bytes())
    other = split(open_dataset(tmp_path / "other"), 0.25)
    assert contents(one.held_out) == contents(other.held_out)
    assert len(contents(one.held_out)) == 4


def test_copies_of_a_picture_stay_on_one_side(tmp_path: Path) -> None:
    classes(tmp_path, {"a": 4, "b": 4})
    for path in sorted(tmp_path.rglob("*.png")):
        path.with_name(f"copy-{path.name}").write_bytes(path.read_bytes())
    found = split(open_dataset(tmp_path), 0.25)
    assert len(contents(found.held_out)) == 4
    assert not set(contents(found.train)) & set(contents(found.held_out))


def test_copies_that_were_not_looked_at_are_left_out_when_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("midsight.data.splits.LOOKED_AT", 4)
    rows = ["path,caption"]
    for number in range(8):  # every picture twice, its copy right behind it: a step of 4 sees few of them
        picture(tmp_path / f"{number}.png", number // 2)
        rows.append(f"{number}.png,text {number}")
    (tmp_path / "t.csv").write_text("\n".join(rows))
    found = split(open_dataset(tmp_path / "t.csv"), 0.3)
    held = contents(found.held_out)
    assert len(held) == 1
    stream = found.train.samples(epochs=1)
    assert held[0] not in [content_of(sample) for sample in stream]
    assert stream.skipped == {"copy of a held-out sample": 1}


def test_pairs_give_a_share_of_all(tmp_path: Path) -> None:
    with open(tmp_path / "s.tar", "wb") as file, ShardWriter(file) as shard:
        for number in range(10):
            path = picture(tmp_path / "p.png", number)
            shard.add(f"{number}", {"png": path.read_bytes(), "txt": f"text {number}".encode()})
    found = split(open_dataset(tmp_path / "s.tar"), 0.3)
    assert not found.train.classes
    assert len(contents(found.held_out)) == 3
    assert found.samples == len(contents(found.train)) == 7
    assert found.alone == ()


@pytest.mark.parametrize("share", [0.0, 0.99])
def test_shares_at_the_ends(tmp_path: Path, share: float) -> None:
    found: Split = split(open_dataset(classes(tmp_path, {"a": 4, "b": 4})), share)
    assert found.samples == (8 if share == 0 else 2)  # a class keeps at least one
    assert (found.held_out is None) == (share == 0)


def test_a_table_of_labels_names_classes(tmp_path: Path) -> None:
    for number in range(4):
        picture(tmp_path / f"{number}.png", number)
    (tmp_path / "labels.csv").write_text("path,label\n0.png,cat\n1.png,dog\n2.png,cat\n3.png,dog\n")
    (tmp_path / "labels.jsonl").write_text('{"path": "0.png", "label": "cat"}\n{"path": "1.png", "label": "dog"}\n')
    (tmp_path / "pairs.jsonl").write_text('{"path": "0.png", "label": "cat", "caption": "a cat"}\n')
    assert [open_dataset(tmp_path / name).classes for name in ("labels.csv", "labels.jsonl", "pairs.jsonl")] == [
        True,
        True,
        False,
    ]
    assert len(contents(split(open_dataset(tmp_path / "labels.csv"), 0.2).held_out)) == 2


def test_data_that_cannot_be_split_is_told(tmp_path: Path) -> None:
    root = classes(tmp_path / "one", {"cats": 3})
    with pytest.raises(InputError, match="holds one class, 'cats'; expected a folder with at least two"):
        split(open_dataset(root), 0.2)
    (root / "dogs").mkdir()
    with pytest.raises(InputError, match="dogs holds no picture that can be used; put some there, or delete"):
        split(open_dataset(root), 0.2)
    (tmp_path / "t.csv").write_text("path,caption\nno.png,a\n")
    with pytest.raises(UnusableError, match=r"unreadable picture.*no\.png"):
        split(open_dataset(tmp_path / "t.csv"), 0.2)
    (tmp_path / "u.csv").write_text("path,caption\nno.png,\n")
    with pytest.raises(UnusableError, match="missing caption"):
        split(open_dataset(tmp_path / "u.csv"), 0.2)
    (tmp_path / "v.csv").write_text("path,width\nno.png,3\n")
    with pytest.raises(InputError, match="no column with captions"):
        split(open_dataset(tmp_path / "v.csv"), 0.2)
