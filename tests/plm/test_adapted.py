"""A PLM kept as what training changed: the same model comes back, and nothing is taken for another's."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from midsight.checkpoints.reader import read_json
from midsight.checkpoints.writer import write_json
from midsight.errors import CheckpointError
from midsight.plm import PLM, adapted, packaged
from midsight.plm.folders import read_config, take_apart
from midsight.train.lang_parts import start_plm
from tests.train import lang

QUERY = "model.layers.1.self_attn.q_proj.weight"
BLOCK = "transformer.resblocks.1.mlp.c_fc.weight"


@dataclass
class Trained:
    """A model that differs from its start, and the folder that holds the difference."""

    model: PLM
    folder: Path
    size: int


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trained:
    language = lang.language(tmp_path / "language")
    monkeypatch.setattr(packaged, "smollm2_folder", lambda: language)
    tower = lang.core(tmp_path / "core")
    start = {"tower__start": str(tower), "language__start": str(language), "tower__image_size": 56}
    model = start_plm(lang.recipe("rows.jsonl", **start))
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        query = model.language_model.get_parameter(QUERY)
        query += torch.randn(len(query), 2, generator=draw) @ torch.randn(2, query.shape[1], generator=draw) * 0.3
        for name in ("positional_embedding", "transformer.resblocks.0.ln_1.weight"):
            values = model.vision_model.get_parameter(name)
            values += torch.randn(values.shape, generator=draw)
    folder = tmp_path / "pair"
    size = adapted.write(folder, take_apart(model), str(tower), 4, {"seed": 3})
    return Trained(model, folder, size)


def test_the_same_model_comes_back(trained: Trained) -> None:
    found = PLM.from_pretrained(trained.folder, dtype=torch.float32)
    expected = trained.model.state_dict()
    assert found.state_dict().keys() == expected.keys()
    for key, value in found.state_dict().items():
        torch.testing.assert_close(value, expected[key], rtol=2e-3, atol=2e-3)
    start = lang.language(trained.folder.parent / "again")
    unchanged = take_apart(trained.model).language_model[QUERY] - adapted.read_tensors(start)[QUERY]
    assert unchanged.abs().mean() > 0.1  # otherwise the loop above would show nothing
    ids = found.tokenizer.encode("What is the total?") if found.tokenizer else []
    assert ids
    assert found.config.image_token_id == trained.model.config.image_token_id
    assert read_config(trained.folder).metadata == {"seed": 3}


def test_only_what_changed_is_kept(trained: Trained) -> None:
    keys = set(adapted.read_tensors(trained.folder))
    language = {key for key in keys if key.startswith("language_model.")}
    assert language == {f"language_model.{QUERY}.up", f"language_model.{QUERY}.down"}
    tower = {key.removeprefix("vision_model.") for key in keys if key.startswith("vision_model.")}
    tower = {key for key in tower if not key.endswith(".gamma")}  # LayerScale is new: the start has none
    assert tower == {"positional_embedding", "transformer.resblocks.0.ln_1.weight"}
    assert trained.size == (trained.folder / "model.safetensors").stat().st_size < 60_000


def test_a_part_that_was_trained_in_full_comes_back_as_near_as_its_rank_allows(trained: Trained) -> None:
    start = trained.model.vision_model.get_parameter(BLOCK).detach().clone()
    change = torch.randn(start.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        trained.model.vision_model.get_parameter(BLOCK).copy_(start + change)
    tower = str(trained.folder.parent / "core")
    adapted.write(trained.folder, take_apart(trained.model), tower, 8, {})
    found = PLM.from_pretrained(trained.folder, dtype=torch.float32).vision_model.get_parameter(BLOCK) - start
    sizes = torch.linalg.svdvals(change)
    nearest = sizes[8:].square().sum().sqrt()  # Eckart and Young: no matrix of rank 8 is nearer
    assert torch.linalg.matrix_norm(found - change) < 1.02 * nearest


def test_another_tower_is_refused(trained: Trained) -> None:
    lang.core(trained.folder.parent / "core", seed=9)
    with pytest.raises(CheckpointError, match=r"trained with .* install the midsight that it came with"):
        PLM.from_pretrained(trained.folder)


def test_an_unknown_language_model_is_refused(trained: Trained) -> None:
    config = read_json(trained.folder / "config.json")
    write_json(trained.folder / "config.json", config | {"language": "gpt-9"})
    with pytest.raises(CheckpointError, match="'gpt-9' is not known"):
        PLM.from_pretrained(trained.folder)
