"""The embedded PE-Spatial: how it is measured and described, and what ships."""

from pathlib import Path

import numpy as np
import torch

import midsight
from midsight import pe
from midsight.checkpoints import open_pretrained, save_pretrained
from midsight.checkpoints.hub import EMBEDDED_SPATIAL
from midsight.configs import PreprocessConfig
from midsight.data.scenes import FurnitureModel
from midsight.evaluate import scene_probes as probes
from midsight.evaluate.scene_probes import Answer, ProbeConfig
from midsight.train.embedded_spatial import card, measure, scenes
from tests import peers
from tests.train.blocks_world import drawing, write_blocks

TOWER = pe.PEConfig(
    patch_size=8, width=32, layers=2, heads=2, mlp_ratio=2.0, image_size=32, output_dim=None, pool_type="none",
    use_cls_token=True, use_ln_post=False,
)  # fmt: skip


def chair(name: str) -> FurnitureModel:
    return FurnitureModel(name, {"en": name}, "Office", Path(f"{name}.obj"), (1.0, 1.0, 1.0), "CC0-1.0", "A", "test")


def test_a_fifth_of_the_furniture_is_held_out_by_its_name() -> None:
    held = [scenes.is_held_out(chair(f"chair {number}")) for number in range(1000)]
    assert 150 < sum(held) < 250
    assert held == [scenes.is_held_out(chair(f"chair {number}")) for number in range(1000)]
    assert [one.side for one in scenes.SETS] == ["aligned", "held_out", "held_out", "held_out"]
    every = scenes.SETS + scenes.HEAD_SETS
    assert len({one.seed for one in every}) == len({one.name for one in every}) == len(every)


def test_what_judges_heads_never_taught_them() -> None:
    sides = [scenes.sides_of(chair(f"chair {number}")) for number in range(1000)]
    for held, found in zip([scenes.is_held_out(chair(f"chair {n}")) for n in range(1000)], sides, strict=True):
        assert ("held_out" in found, "aligned" in found) == (held, not held)
        assert len(found & {"heads", "heads_test", "heads_unseen"}) == 1
        assert held or "heads_unseen" not in found  # what nothing has seen is among what alignment has not seen
        assert not held or "heads_test" not in found
    assert 60 < sum("heads_unseen" in found for found in sides) < 140
    assert 110 < sum("heads_test" in found for found in sides) < 210


def test_each_layer_is_looked_at_in_one_pass(tmp_path: Path) -> None:
    tower = peers.randomize(pe.VisionTransformer(TOWER)).eval()
    folder = save_pretrained(
        tmp_path / "tower", tower.state_dict(), name="t", vision=TOWER, text=None, preprocess=PreprocessConfig(32)
    )
    found = open_pretrained(folder, dtype=torch.float32)
    pictures = [drawing(number)[0] for number in range(9)]
    first, last = measure.encoder(found, 64)(pictures)
    assert first.shape == last.shape == (9, 32, 8, 8)
    pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        expected = tower.forward_features(pixels, layer_idx=0, strip_cls_token=True)
    torch.testing.assert_close(first.flatten(2).transpose(1, 2), expected, rtol=1e-4, atol=1e-4)


def answer(value: float) -> Answer:
    rows = np.array([value - 1, value, value + 1])
    return Answer(rows, lambda r: float(r.mean()))


def test_the_table_names_the_best_layer_and_the_differences() -> None:
    first, second, ours = ({task: answer(value) for task in measure.TASKS} for value in (30.0, 20.0, 40.0))
    text = measure.table([first, second], [first, ours], trunk=False)
    assert "segmentation 1 of 2" in text
    assert "depth 2 of 2" in text  # where less is better
    assert "| core, last layer | 20.0 (" in text
    assert "+20.0 (+20.0 to +20.0)" in text  # the same draws on both sides
    assert "trunk" not in text
    assert "the packaged trunk alone" in measure.table([answers_of(1.0), first, second], [ours], trunk=True)


def answers_of(value: float) -> dict[str, Answer]:
    return {task: answer(value) for task in measure.TASKS}


def test_the_card_says_what_was_trained_and_measured(tmp_path: Path) -> None:
    tower = peers.randomize(pe.VisionTransformer(TOWER))
    metadata = {"revision": "abc", "samples": 32, "recipe": {"steps": 2, "locality": {"teacher": "scenes"}}}
    run = save_pretrained(
        tmp_path / "run", tower.state_dict(), name="run", vision=TOWER, text=None, preprocess=PreprocessConfig(32),
        metadata=metadata,
    )  # fmt: skip
    card.save(run, tmp_path / "out")
    assert {value.dtype for value in open_pretrained(tmp_path / "out").state_dict.values()} == {torch.float16}
    pictures = probes.read_pictures(write_blocks(tmp_path / "data", 2), ("blue", "red"), ProbeConfig(side=8))
    card.write(tmp_path / "out", "| a table |", measure.Asked(("blue", "red"), pictures, pictures, []))
    text = (tmp_path / "out" / "README.md").read_text()
    assert "| a table |" in text
    assert "locality.teacher = 'scenes'" in text
    assert "`abc`" in text


def test_what_ships_is_small_and_opens_by_name() -> None:
    assert (EMBEDDED_SPATIAL / "model.safetensors").stat().st_size <= 20e6
    model = midsight.load("embedded-spatial")
    (maps,) = model.features(drawing(0)[0], layers=[-1])
    size = model.preprocess.image_size // model.config.patch_size
    assert maps.shape[-3:] == (384, size, size)
    assert model.config.pool_type == "none"
