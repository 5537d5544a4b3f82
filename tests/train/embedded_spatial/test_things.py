"""The head that tells things from surroundings: it learns from drawn boxes, and is written with its card."""

from pathlib import Path

import pytest
import torch

import midsight
from midsight.api import dense_encoder
from midsight.api.by_labels import THINGS, things_head
from midsight.errors import InputError
from midsight.evaluate.scene_probes import read_scenes
from midsight.tasks.saved import load_head, read_head
from midsight.tasks.segmentation import OpenConfig
from midsight.train.embedded_spatial.things import ThingsConfig, fit, gather, make
from tests.train.blocks_world import write_blocks

SMALL = ThingsConfig(scenes=6, steps=150, batch=256, lr=0.05, scales=(0.5, 1.0))


def test_a_head_is_made(dense_folder: Path, tmp_path: Path) -> None:
    encoder = dense_encoder(midsight.load(dense_folder, device="cpu"))
    scenes = write_blocks(tmp_path / "blocks", 8)
    tokens, things = gather(encoder, scenes, SMALL)
    assert tokens.shape == (6 * (14**2 + 28**2), 48)  # patches of 8 in squares of 112 and 224 pixels
    ids = next(iter(read_scenes(scenes))).ids
    middles = ((torch.arange(14) + 0.5) * 64 / 14).long()
    assert things[: 14**2].tolist() == (torch.from_numpy(ids)[middles][:, middles] > 0).flatten().tolist()
    make(encoder, scenes, tmp_path / "head", SMALL)
    head, saved = load_head(tmp_path / "head", encoder, "segmentation")
    assert saved.classes == ("surroundings", "things")
    assert saved.trained["scenes"] == 6
    found = head([tokens.T[None, :, :, None]])[0, :, :, 0].argmax(0) == 1
    assert (found == things).float().mean() > 0.9
    assert things.float().mean() < 0.5  # so that always saying "surroundings" would not do
    assert "6 rendered scenes" in (tmp_path / "head" / "README.md").read_text()
    with pytest.raises(InputError, match="holds 8 scenes; expected 9"):
        gather(encoder, scenes, ThingsConfig(scenes=9, scales=(0.1,)))


def test_the_fit_is_a_linear_map_of_plain_tokens() -> None:
    torch.manual_seed(0)
    tokens = torch.randn(4000, 5) * torch.tensor([1.0, 10, 0.1, 1, 1]) + 3
    things = tokens[:, 1] > 3
    head, loss = fit(tokens, things, SMALL)
    assert loss < 0.2
    found = head([tokens.T[None, :, :, None]])[0, :, :, 0].argmax(0) == 1
    assert (found == things).float().mean() > 0.97


def test_the_shipped_head_belongs_to_the_shipped_encoder(dense_folder: Path) -> None:
    assert things_head(midsight.load("embedded-spatial", device="cpu")) is not None
    assert things_head(midsight.load(dense_folder, device="cpu")) is None
    trained = read_head(THINGS).trained
    assert (
        tuple(trained["recipe"]["scales"]) == OpenConfig().scales
    )  # it knows the sizes that pictures are looked at in
    assert sum(path.stat().st_size for path in THINGS.iterdir()) < 2e6
