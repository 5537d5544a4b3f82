"""Layers by language: the layer that holds the colour answers best, and exact answers are those of greedy decoding."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import midsight
from midsight.api import Perception
from midsight.errors import CheckpointError, InputError
from midsight.evaluate.layer_language import read_asked
from midsight.evaluate.layer_sweep import sweep_layers
from midsight.evaluate.layer_types import SweepConfig
from midsight.plm.assemble import Language, open_language
from midsight.plm.chat import chat_format, encode
from midsight.plm.packing import loss_sum, pack, packed_logits
from midsight.plm.rows import LearntRow
from tests.evaluate import layered
from tests.plm.conversations import question, write_rows
from tests.train import lang

LLAMA3 = ("<|begin_of_text|>", "<|end_of_text|>", "<|image|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Perception:
    return midsight.load(layered.save_tower(tmp_path_factory.mktemp("layered") / "tower"), device="cpu")


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model that was taught to say the word that stands where the picture is."""
    folder = lang.language(tmp_path_factory.mktemp("language") / "lm")
    language = open_language(folder)
    rows = []
    for colour in layered.COLOURS:
        ids, labels = encode(question("Colour?", colour, image="x"), language.tokenizer, [4], 200).values()
        word = language.tokenizer.encode(colour)[0]
        ids = [word if token == language.image_token_id else token for token in ids]
        rows.append(LearntRow(colour, torch.tensor(ids), torch.tensor(labels), None))
    batch, model = pack(rows), language.model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        embeds = model.get_input_embeddings()(batch.input_ids)
        loss = loss_sum(packed_logits(model, embeds, batch), batch.targets) / len(batch.targets)
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.2
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def language(words: Path) -> Language:
    return open_language(words)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = layered.class_folder(tmp_path_factory.mktemp("data") / "classes", 12)
    paths = sorted(folder.rglob("*.png"))
    found = [question("Colour?", path.parent.name, image=str(path.relative_to(folder))) for path in paths]
    return write_rows(folder / "rows.jsonl", found)


def test_the_layer_with_the_colour_answers_best(model: Perception, words: Path, rows: Path, tmp_path: Path) -> None:
    seen: set[str] = set()
    config = SweepConfig("lang", language=str(words), lr=3e-3, epochs=1, share=0.25)
    found = sweep_layers(model, rows, config, tmp_path, lambda what, done, of: seen.add(what))
    assert seen == {"features", "projectors"}
    assert found.best.layer_idx == layered.MIDDLE
    assert (found.metric, found.higher, found.unit, found.units, found.training) == ("loss", False, "rows", 9, 27)
    losses = [row.value for row in found.figures]
    assert losses[layered.MIDDLE] < 0.8 * losses[layered.LAST]
    exact = found.also["exact answers"]
    assert exact[layered.MIDDLE] >= exact[layered.LAST]
    assert found.record()["layers"][1]["exact answers"] == exact[1]


@torch.no_grad()
@pytest.mark.parametrize("names", [lang.SMOL, LLAMA3])
def test_an_exact_answer_counts_from_behind_its_mark_to_its_end(
    names: tuple[str, ...], tmp_path: Path, rows: Path
) -> None:
    language = open_language(lang.language(tmp_path / "lm", names))
    asked = read_asked(rows, language, 4, 0.25)
    assert len(asked.rows) == 36
    chat = chat_format(language.tokenizer)
    for row, exact in zip(asked.rows[:5], asked.exact[:5], strict=True):
        learnt = row.input_ids[1:][row.labels[1:] != -100]
        told = learnt[exact].tolist()
        assert told[-1] == chat.close[0]
        assert language.tokenizer.decode(told[:-1]) in ("red", "green", "blue")


def test_rows_of_two_files_and_those_that_cannot_be_used(language: Language, rows: Path, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in rows.read_text().splitlines()]
    for line in lines:
        line["image"] = str(rows.parent / line["image"])
    write_rows(
        tmp_path / "train.jsonl", [*lines[:6], "{", question("a", "b"), question("a", "b", image="none.png"), {}]
    )
    write_rows(tmp_path / "val.jsonl", lines[6:9])
    asked = read_asked(tmp_path, language, 4, 0.5)
    assert (asked.training, len(asked.rows)) == (6, 9)
    assert asked.left_out == {"broken row": 1, "not one picture": 2, "missing media": 1}
    again = read_asked(rows, language, 4, 0.25)
    held = set(again.pictures[again.training :])
    assert not held & set(again.pictures[: again.training])
    assert len(held) == 9
    assert len(again.rows) == 36
    assert np.array_equal(again.rows[0].labels, read_asked(rows, language, 4, 0.25).rows[0].labels)


def test_wrong_data_is_told(model: Perception, words: Path, rows: Path, tmp_path: Path) -> None:
    config = SweepConfig("lang", language=str(words))
    with pytest.raises(InputError, match="expected a JSONL file of rows"):
        sweep_layers(model, tmp_path, config)
    one = write_rows(tmp_path / "one.jsonl", [question("a", "b")])
    with pytest.raises(InputError, match=r"0 rows to train on .*1 not one picture"):
        sweep_layers(model, one, config)
    with pytest.raises(CheckpointError, match="there is no such folder"):
        sweep_layers(model, rows, SweepConfig("lang", language=str(tmp_path / "none")))
