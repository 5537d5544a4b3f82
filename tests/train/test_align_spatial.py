"""Spatial alignment on drawn boxes: both losses fall, it stops and resumes exactly, every teacher teaches."""

import os
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import midsight
from midsight import pe
from midsight.checkpoints import load_pretrained, save_pretrained
from midsight.configs import PreprocessConfig
from midsight.data.datasets import open_dataset
from midsight.data.samples import UnusableError
from midsight.data.stream import Order
from midsight.errors import CheckpointError, ConfigError, TrainingError
from midsight.train.align_spatial import Student, start_student, train_spatial
from midsight.train.config import changed
from midsight.train.masking import draw_blocks
from midsight.train.spatial_config import LocalityConfig, SpatialConfig, read_spatial_recipe
from midsight.train.spatial_data import Prepare, collate
from midsight.train.spatial_teachers import SamTeacher, open_locality, open_sam, scene_masks
from midsight.transforms.augment import AugmentConfig
from tests import peers
from tests.train import small
from tests.train.blocks_world import COLOURS, drawing, write_blocks

STEM = pe.PEConfig(
    patch_size=8, width=48, layers=3, heads=3, mlp_ratio=2.0, output_dim=16, image_size=32, use_cls_token=True
)


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_blocks(tmp_path_factory.mktemp("blocks"))


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PE-Core pair with a class token, at 32 pixels."""
    model = peers.randomize(pe.CLIP(STEM, small.TEXT), seed=1)
    return save_pretrained(
        tmp_path_factory.mktemp("core") / "core", model.state_dict(), name="core", vision=STEM, text=small.TEXT,
        preprocess=PreprocessConfig(image_size=32),
    )  # fmt: skip


def recipe(core: Path, blocks: Path, **changes: Any) -> SpatialConfig:
    """A short run; keys with two underscores stand for those with a dot."""
    values: dict[str, Any] = {
        "steps": 6,
        "model": {"start": str(core), "image_size": 64, "drop_path": 0.1},
        "semantic": {"layer": 1},
        "locality": {"teacher": "scenes"},
        "data": {"source": str(blocks), "batch_size": 4, "micro_batch": 3, "workers": 1},
        "optim": {"name": "adamw", "lr": 2e-3},
        "run": {"device": "cpu", "log_every": 1},
    }
    config = changed(SpatialConfig(), values, "test")
    for key, value in changes.items():
        group, _, name = key.partition("__")
        config = changed(config, {group: {name: value}} if name else {group: value}, "test")
    return config


def test_both_losses_fall_and_the_result_is_a_spatial_tower(core: Path, blocks: Path, tmp_path: Path) -> None:
    seen: list[Mapping[str, Any]] = []
    outcome = train_spatial(recipe(core, blocks, steps=60, hide__ratio=0.25), tmp_path / "run", report=seen.append)
    assert outcome.finished
    first, last = ({key: np.mean([r[key] for r in part]) for key in ("semantic", "locality")}
                   for part in (seen[:5], seen[-5:]))  # fmt: skip
    assert last["semantic"] < first["semantic"] - 0.1
    assert last["locality"] < 0.8 * first["locality"]
    assert outcome.model is not None
    found = load_pretrained(outcome.model)
    assert (found.vision.pool_type, found.vision.output_dim, found.vision.use_ln_post) == ("none", None, False)
    assert (found.vision.ls_init_value, found.vision.drop_path, found.vision.image_size) == (0.1, 0.0, 64)
    assert found.text is None
    assert not any("mask_token" in key or "match" in key for key in found.state_dict)
    assert found.metadata["recipe"]["locality"]["teacher"] == "scenes"
    assert found.metadata["seed"] == 0
    assert len(found.metadata["revision"]) >= 7
    model = midsight.load(outcome.model)
    maps = model.features([drawing(0)[0]], layers=[-1])
    assert next(iter(maps)) is not None


def test_a_student_begins_as_its_start_with_layer_scale(core: Path, blocks: Path) -> None:
    config = recipe(core, blocks)
    start = load_pretrained(core, dtype=torch.float32)
    student = start_student(start, config).eval()
    plain = pe.CLIP(STEM, small.TEXT)
    plain.load_state_dict(start.state_dict)
    images = small.batch(2, size=64)[0]
    with torch.no_grad():
        for block in student.transformer.resblocks:
            assert torch.equal(block.ls_1.gamma, torch.full((48,), 0.1))  # type: ignore[union-attr]
            block.ls_1.gamma.fill_(1.0)  # type: ignore[union-attr]
            block.ls_2.gamma.fill_(1.0)  # type: ignore[union-attr]
        torch.testing.assert_close(student.forward_features(images), plain.visual.eval().forward_features(images))


def test_a_stopped_run_ends_in_the_same_weights(core: Path, blocks: Path, tmp_path: Path) -> None:
    config = recipe(core, blocks)
    whole = train_spatial(config, tmp_path / "whole")

    def stop(record: Mapping[str, Any]) -> None:
        if record["step"] == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    stopped = train_spatial(config, tmp_path / "cut", report=stop)
    assert (stopped.finished, stopped.signal) == (False, signal.SIGTERM)
    with pytest.raises(TrainingError, match="resume it"):
        train_spatial(config, tmp_path / "cut")
    with pytest.raises(TrainingError, match="another configuration"):
        train_spatial(replace(config, seed=1), tmp_path / "cut", resume=True)
    resumed = train_spatial(config, tmp_path / "cut", resume=True)
    assert whole.model is not None
    assert resumed.model is not None
    ours, theirs = (load_pretrained(path).state_dict for path in (whole.model, resumed.model))
    for key, value in ours.items():
        assert torch.equal(value, theirs[key]), key


def test_gradients_do_not_depend_on_micro_batches(core: Path, blocks: Path, tmp_path: Path) -> None:
    plain = {"model__drop_path": 0.0, "steps": 1, "optim__clip": 0}
    models = [
        train_spatial(recipe(core, blocks, data__micro_batch=micro, **plain), tmp_path / str(micro)).model
        for micro in (1, 4)
    ]
    ours, theirs = (load_pretrained(path).state_dict for path in models if path is not None)
    for key, value in ours.items():
        torch.testing.assert_close(value, theirs[key], rtol=1e-3, atol=1e-5)


def test_frozen_parts_stay_and_others_move(core: Path, blocks: Path, tmp_path: Path) -> None:
    config = recipe(core, blocks, model__frozen=["conv1", "transformer.resblocks.0."])
    outcome = train_spatial(config, tmp_path / "run")
    assert outcome.model is not None
    start, end = load_pretrained(core).state_dict, load_pretrained(outcome.model).state_dict
    for name in ("conv1.weight", "transformer.resblocks.0.mlp.c_fc.weight"):
        assert torch.equal(start[f"visual.{name}"], end[name])
    assert not torch.equal(
        start["visual.transformer.resblocks.1.mlp.c_fc.weight"], end["transformer.resblocks.1.mlp.c_fc.weight"]
    )


def test_objects_move_as_their_pixels(blocks: Path) -> None:
    """Mirrored and cut, each token's share of an object is its share of that object's colour."""
    dataset = open_dataset(blocks, needs_captions=False, labels=True)
    augment = AugmentConfig(area=(0.4, 0.9), brightness=0, saturation=0)
    prepare = Prepare(PreprocessConfig(image_size=64), augment, 3, 8)
    rows = list(dataset.stream(prepare, Order(0), workers=1, epochs=2))
    assert len(rows) == 24
    batch = collate(rows)
    assert batch.shares is not None
    colours = torch.tensor(COLOURS).float().view(3, 3, 1, 1) / 127.5 - 1  # object, channel
    for pixels, shares in zip(batch.pixels, batch.shares, strict=True):
        nearest = (pixels[None] - colours).square().sum(1).argmin(0)  # 64, 64
        seen = F.adaptive_avg_pool2d(F.one_hot(nearest, 3).permute(2, 0, 1).float(), 8)
        assert (seen - shares).abs().mean() < 0.03
        torch.testing.assert_close(shares.sum(0), torch.ones(8, 8))
    masks = scene_masks(batch, (8, 8))
    assert masks.shape == (24, 64, 3)
    torch.testing.assert_close(masks[0, 9], batch.shares[0, :, 1, 1])
    torch.testing.assert_close(scene_masks(batch, (4, 4))[0, 0], batch.shares[0, :, :2, :2].mean((1, 2)))


def test_a_student_learns_from_a_larger_one(core: Path, blocks: Path, tmp_path: Path) -> None:
    wide = pe.PEConfig(
        patch_size=8, width=96, layers=2, heads=3, mlp_ratio=2.0, image_size=64, use_cls_token=False,
        output_dim=None, pool_type="none", use_ln_post=False,
    )  # fmt: skip
    tower = peers.randomize(pe.VisionTransformer(wide), seed=4)
    with torch.no_grad():
        for block in tower.transformer.resblocks:  # tokens unlike each other, so that pairs can be learned
            for part in (block.attn.out_proj, block.mlp.c_proj):
                part.weight.mul_(0.1)
                part.bias.zero_()
    teacher = save_pretrained(
        tmp_path / "teacher", tower.state_dict(), name="wide", vision=wide, text=None,
        preprocess=PreprocessConfig(image_size=64),
    )  # fmt: skip
    seen: list[Mapping[str, Any]] = []
    config = recipe(core, blocks, steps=40, teacher__start=str(teacher), model__layer_scale=0, hide__ratio=0.0)
    outcome = train_spatial(config, tmp_path / "run", report=seen.append)
    assert set(seen[0]) >= {"pairs", "tokens"}
    assert "semantic" not in seen[0]
    assert seen[-1]["pairs"] < 0.7 * seen[0]["pairs"]
    assert seen[-1]["tokens"] < seen[0]["tokens"] - 0.2
    assert outcome.model is not None
    assert load_pretrained(outcome.model).vision.ls_init_value is None
    other = replace(wide, patch_size=16, image_size=64)
    odd = save_pretrained(
        tmp_path / "odd", peers.randomize(pe.VisionTransformer(other)).state_dict(), name="odd", vision=other,
        text=None, preprocess=PreprocessConfig(image_size=64),
    )  # fmt: skip
    with pytest.raises(ConfigError, match="patches of 16 pixels, the student of 8"):
        train_spatial(recipe(core, blocks, teacher__start=str(odd)), tmp_path / "no")


def tiny_sam() -> torch.nn.Module:
    """SAM 2.1 with random weights, for pictures of 128 pixels."""
    from transformers import Sam2Config, Sam2Model
    from transformers.models.sam2 import configuration_sam2 as sam

    backbone = sam.Sam2HieraDetConfig(
        hidden_size=16, num_attention_heads=1, image_size=[128, 128], blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[16, 32, 64, 128], num_attention_heads_per_stage=[1, 1, 2, 2],
        window_size_per_stage=[8, 4, 4, 4], window_positional_embedding_background_size=[4, 4],
        global_attention_blocks=[3],
    )  # fmt: skip
    vision = sam.Sam2VisionConfig(
        backbone_config=backbone, backbone_channel_list=[128, 64, 32, 16],
        backbone_feature_sizes=[[32, 32], [16, 16], [8, 8]], fpn_hidden_size=32,
    )  # fmt: skip
    prompt = sam.Sam2PromptEncoderConfig(hidden_size=32, image_size=128, patch_size=16)
    decoder = sam.Sam2MaskDecoderConfig(hidden_size=32, mlp_dim=32, num_attention_heads=2, iou_head_hidden_dim=32)
    config = Sam2Config(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)
    return peers.randomize(Sam2Model(config).eval())


def test_sam_is_asked_at_each_point_of_the_grid(blocks: Path) -> None:
    """Against one question at a time, on pixels that were made for SAM from the picture itself."""
    model, preprocess = tiny_sam(), PreprocessConfig(image_size=64)
    config = LocalityConfig(points=3, sam_size=128, sam_points_at_once=4)
    rows = [drawing(0)[0], drawing(1)[0]]
    unit = torch.stack([torch.from_numpy(row) for row in rows]).permute(0, 3, 1, 2).float() / 255
    batch = collate_pixels(unit * 2 - 1)
    found = SamTeacher(model, config, preprocess)(batch, (8, 8))
    assert found.shape == (2, 64, 9)
    big = F.interpolate(unit, (128, 128), mode="bilinear", antialias=True)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    for row in (0, 1):
        for point in (0, 5):
            at = torch.tensor([[[[(point % 3 + 0.5) * 128 / 3, (point // 3 + 0.5) * 128 / 3]]]])
            with torch.no_grad():
                mask = model(
                    pixel_values=(big[row : row + 1] - mean) / std, input_points=at,
                    input_labels=torch.ones(1, 1, 1, dtype=torch.int64), multimask_output=False,
                ).pred_masks[0, 0]  # fmt: skip
            expected = F.interpolate(mask[None], (8, 8), mode="bilinear", antialias=True).flatten()
            assert expected.std() > 1e-4
            torch.testing.assert_close(found[row, :, point], expected, rtol=1e-3, atol=1e-4)


def collate_pixels(pixels: Tensor) -> Any:
    from midsight.train.spatial_data import SpatialBatch

    return SpatialBatch(pixels, None, tuple(str(k) for k in range(len(pixels))))


def test_sam_from_a_folder_teaches(core: Path, blocks: Path, tmp_path: Path) -> None:
    tiny_sam().save_pretrained(tmp_path / "sam")  # type: ignore[operator]
    changes = {"locality__name": str(tmp_path / "sam"), "locality__points": 4, "locality__sam_size": 128}
    config = recipe(core, write_blocks(tmp_path / "plain", 4, with_labels=False), locality__teacher="sam", steps=2,
                    **changes)  # fmt: skip
    seen: list[Mapping[str, Any]] = []
    assert train_spatial(config, tmp_path / "run", report=seen.append).finished
    assert seen[0]["locality"] > 0
    with pytest.raises(CheckpointError, match=r"is no SAM 2\.1 that transformers can open"):
        open_sam(str(tmp_path / "nothing"))


@pytest.mark.parametrize(("grid", "block"), [((8, 8), 2), ((7, 5), 2), ((6, 6), 3)])
def test_hidden_squares_are_whole_and_as_many_as_asked(grid: tuple[int, int], block: int) -> None:
    hidden = draw_blocks(0, 1, [0, 1], grid, 0.75, block).unflatten(1, grid)
    high, wide = -(-grid[0] // block), -(-grid[1] // block)
    for row in hidden:
        squares = [
            row[r * block : (r + 1) * block, c * block : (c + 1) * block] for r in range(high) for c in range(wide)
        ]
        assert all(square.all() or not square.any() for square in squares)
        assert sum(bool(square.any()) for square in squares) == max(1, round(high * wide * 0.75))
    assert not torch.equal(hidden[0], hidden[1])


def test_a_hidden_patch_does_not_matter(core: Path, blocks: Path) -> None:
    student = Student(start_student(load_pretrained(core, dtype=torch.float32), recipe(core, blocks)), None).eval()
    images = small.batch(1, size=64)[0]
    hidden = torch.zeros(1, 64, dtype=torch.bool)
    hidden[0, 9] = True
    other = images.clone()
    other[:, :, 8:16, 8:16] += 1.0  # patch 9 of 8 x 8
    with torch.no_grad():
        assert torch.equal(student(images, hidden), student(other, hidden))
        assert not torch.allclose(student(images, None), student(other, None))


def test_what_cannot_be_is_refused(core: Path, blocks: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs weights to start from"):
        train_spatial(
            replace(recipe(core, blocks), model=replace(recipe(core, blocks).model, start="")), tmp_path / "a"
        )
    with pytest.raises(ConfigError, match="not a multiple of the start's patch_size 8"):
        train_spatial(recipe(core, blocks, model__image_size=60), tmp_path / "b")
    with pytest.raises(ConfigError, match="nothing to learn from"):
        train_spatial(recipe(core, blocks, semantic__weight=0.0, locality__teacher="none"), tmp_path / "c")
    with pytest.raises(UnusableError, match=r"has no \.npz of the scene engine"):
        train_spatial(recipe(core, write_blocks(tmp_path / "d", 4, with_labels=False)), tmp_path / "e")
    with pytest.raises(ConfigError, match="locality.teacher: scenes, sam or none"):
        recipe(core, blocks, locality__teacher="dino")
    with pytest.raises(ConfigError, match="did you mean 'semantic'"):
        read_spatial_recipe("spatial_g14", ["semantc.weight=1"])


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_state(core: Path, blocks: Path, tmp_path: Path) -> None:
    calls = iter(range(100))

    def broken(batch: Any, grid: tuple[int, int]) -> Tensor:
        masks = torch.rand(len(batch.pixels), grid[0] * grid[1], 3)
        return masks * (float("nan") if next(calls) >= 4 else 1.0)

    config = recipe(core, blocks, run__save_every=1, steps=5)
    with pytest.raises(TrainingError, match=r"step 3: the loss is no number .*step-00000002"):
        train_spatial(config, tmp_path / "run", locality=broken)


def test_shipped_recipes_can_be_read() -> None:
    g = read_spatial_recipe("spatial_g14")
    assert (g.steps, g.data.batch_size, g.optim.lr, g.optim.warmup_steps) == (24_000, 12_288, 5e-4, 0)
    assert (g.hide.ratio, g.hide.block, g.model.drop_path, g.model.layer_scale) == (0.75, 2, 0.4, 0.1)
    assert 50 + g.semantic.layer == 40  # layer 41 of 50
    assert read_spatial_recipe("spatial_distill").teacher.start == "PE-Spatial-G14-448"
    assert read_spatial_recipe("spatial_embedded").locality.teacher == "scenes"
    assert open_locality(LocalityConfig(teacher="none"), PreprocessConfig(image_size=32), torch.device("cpu")) is None
