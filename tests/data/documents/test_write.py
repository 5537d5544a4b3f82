"""A data set on the disk: the same bytes always, whole after a stop, with its terms beside it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from midsight.data.documents import SPLITS, DocumentsConfig, write
from midsight.data.documents.make import Maker, Place, Stock
from midsight.data.documents.sheet import UnfitError
from midsight.errors import InputError, OutputError

CONFIG = DocumentsConfig({"card": 4, "table": 2, "chart": 1, "form": 1, "invoice": 2}, min_side=320, max_side=480)
TRAIN, ALL = 10, 10 + 3 * 5
PER_PART = 4


@pytest.fixture(autouse=True, scope="module")
def _small_parts() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write, "_PER_PART", PER_PART)
        yield


def _files(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != write.JOURNAL
    }


@pytest.fixture(scope="module")
def built(stock: Stock, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("documents")
    made = write.build_documents(out, CONFIG, stock)
    assert made.failures == {}
    assert made.documents["train"] == TRAIN
    return out


def test_processes_change_no_byte(built: Path, stock: Stock, tmp_path: Path) -> None:
    seen: list[int] = []
    write.build_documents(tmp_path / "out", CONFIG, stock, workers=2, progress=seen.append)
    assert _files(tmp_path / "out") == _files(built)
    assert seen[-1] == ALL
    assert seen == sorted(seen)


def test_rows_point_to_pictures_and_the_truth_lies_beside(built: Path) -> None:
    for split in SPLITS:
        rows = [json.loads(text) for text in (built / f"{split}.jsonl").read_text().splitlines()]
        truths = {t["image"]: t for t in map(json.loads, (built / f"{split}.truth.jsonl").read_text().splitlines())}
        assert {row["image"] for row in rows} == set(truths)
        assert len(rows) == (len(truths) if split == "train" else sum(len(t["questions"]) for t in truths.values()))
        for image, truth in truths.items():
            with Image.open(built / image) as picture:
                assert picture.size == (truth["width"], truth["height"])
        for row in rows:
            questions = {q["question"]: q["answers"][0] for q in truths[row["image"]]["questions"]}
            turns = [turn["value"] for turn in row["conversations"]]
            assert turns
            assert all(questions[ask] == say for ask, say in zip(turns[::2], turns[1::2], strict=True))


def test_metadata_tells_parts_and_terms(built: Path) -> None:
    record = json.loads((built / write.METADATA).read_text())
    assert record["documents"]["train"] == TRAIN
    families = {split: {f["name"] for f in members} for split, members in record["fonts"].items()}
    assert not families["train"] & families["test_unseen"]
    for split in SPLITS:
        truths = [json.loads(text) for text in (built / f"{split}.truth.jsonl").read_text().splitlines()]
        for truth in truths:
            assert set(truth["fonts"]) <= families[split]
            assert truth["layout"] in record["layouts"][split][truth["kind"]]
    terms = (built / write.ATTRIBUTION).read_text()
    assert "DejaVu Sans: " in terms
    assert "Bootstrap Icons" in terms
    assert "WordNet" not in terms  # no sentence of it is used here


def test_a_stopped_build_goes_on(built: Path, stock: Stock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write.build_documents(tmp_path, CONFIG, stock, progress=stop)
    assert not (tmp_path / "train.jsonl").exists()
    made: list[str] = []
    make = Maker.make

    def counted(self: Maker, place: Place) -> object:
        made.append(place.id)
        return make(self, place)

    monkeypatch.setattr(Maker, "make", counted)
    write.build_documents(tmp_path, CONFIG, stock)
    assert len(made) == ALL - PER_PART
    assert _files(tmp_path) == _files(built)
    made.clear()
    again = write.build_documents(tmp_path, CONFIG, stock)  # a finished one is left alone
    assert made == []
    assert again.documents["train"] == TRAIN


def test_another_build_is_not_written_over(built: Path, stock: Stock) -> None:
    with pytest.raises(OutputError, match="config differ"):
        write.build_documents(built, DocumentsConfig({"card": 3}), stock)
    with pytest.raises(OutputError, match="stock differ"):
        write.build_documents(built, CONFIG, Stock(stock.families, {}, ()))


def test_a_document_that_fits_nowhere_is_left_out_and_named(
    stock: Stock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Maker.make

    def fails(self: Maker, place: Place) -> object:
        if place.index == 1:
            raise UnfitError("too large")
        return make(self, place)

    monkeypatch.setattr(Maker, "make", fails)
    made = write.build_documents(tmp_path, DocumentsConfig({"card": 3}), stock)
    assert made.failures == {"train-card-000001": "too large"}
    assert made.documents == {"train": 2, "validation": 1, "test_unseen": 1, "test_seen": 1}


def test_a_folder_that_cannot_be_made(stock: Stock, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot be made"):
        write.build_documents(tmp_path / "file" / "out", CONFIG, stock)


def test_what_cannot_be_fetched_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stock: Stock) -> None:
    def fails(*_: object) -> Path:
        raise InputError("no network")

    monkeypatch.setattr("midsight.data.documents.icons.fetch_package", fails)
    monkeypatch.setattr("midsight.data.documents.sentences.fetch", fails)
    found = write.packaged_stock(tmp_path, stock.families[0].regular.parent)
    assert found.missing == {"bootstrap-icons": "no network", "wordnet-base": "no network"}
    assert found.stock.icons == {}
    assert len(found.stock.families) >= 4
