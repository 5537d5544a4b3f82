"""Mask R-CNN as a whole: sizes, order, thresholds, batches, nothing found, bad input, names of the published files."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from midsight.errors import CheckpointError, ConfigError, InputError, MediaError, ShapeError
from midsight.tasks.detection import MaskRCNN, MaskRCNNConfig, boxes
from midsight.tasks.detection.preprocess import longest_side_size
from midsight.tasks.detection.roi_heads import pool, select
from tests.tasks.detection import small


@pytest.fixture(scope="module")
def model() -> MaskRCNN:
    return small.mask_rcnn()


@pytest.mark.parametrize(
    ("size", "expected"),
    [((64, 64), (128, 128)), ((90, 128), (90, 128)), ((200, 120), (128, 77)), ((1, 900), (1, 128))],
)
def test_the_longer_side_ends_at_the_squares(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert longest_side_size(size, 128) == expected


def test_preprocessing(model: MaskRCNN) -> None:
    batch, sizes = model.preprocess(small.PICTURES)
    assert batch.shape == (3, 3, 128, 128)
    assert sizes == [(90, 128), (128, 77), (128, 128)]
    pixels = small.PICTURES[1].permute(1, 2, 0).numpy()
    resized = np.asarray(Image.fromarray(pixels).resize((77, 128), Image.Resampling.BILINEAR), dtype=np.float32)
    expected = torch.from_numpy((resized - 127) / 127).permute(2, 0, 1)
    torch.testing.assert_close(batch[1, :, :, :77], expected, rtol=0, atol=1e-6)
    assert batch[1, :, :, 77:].abs().max() == 0  # grey 127, not black


def test_anything_that_is_a_picture(model: MaskRCNN, tmp_path: Any) -> None:
    pixels = small.PICTURES[0].permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(tmp_path / "a.png")
    batch, _ = model.preprocess([small.PICTURES[0], pixels, Image.fromarray(pixels), tmp_path / "a.png"])
    assert all(torch.equal(batch[0], other) for other in batch[1:])


def test_bad_input_is_told(model: MaskRCNN) -> None:
    with pytest.raises(InputError, match="expected a list of pictures.*a single Tensor"):
        model(small.PICTURES[0])
    with pytest.raises(InputError, match="an empty list"):
        model([])
    with pytest.raises(ShapeError, match="expected a tensor"):
        model([torch.zeros(2, 3, 40, 40, dtype=torch.uint8)])
    with pytest.raises(MediaError, match="no such file"):
        model(["nowhere.jpg"])


def test_detections_are_sorted_inside_and_shaped(model: MaskRCNN) -> None:
    for found, picture in zip(model(small.PICTURES), small.PICTURES, strict=True):
        height, width = picture.shape[1:]
        count = len(found["boxes"])
        assert 5 < count <= 20
        assert found["boxes"].shape == (count, 4)
        assert found["masks"].shape == (count, 1, height, width)
        assert found["masks"].dtype is torch.bool
        assert found["labels"].dtype is torch.int64
        assert set(found["labels"].tolist()) <= {0, 1, 2, 3}
        assert (found["scores"].diff() <= 0).all()
        assert found["scores"].min() > 0.05
        assert (found["boxes"] >= 0).all()
        assert (found["boxes"] <= torch.tensor([width, height] * 2)).all()
        for box, mask in zip(found["boxes"].tolist(), found["masks"][:, 0], strict=True):
            rows, columns = mask.nonzero(as_tuple=True)
            if len(rows):
                assert columns.min() + 0.5 >= box[0] - 1e-3
                assert columns.max() + 0.5 <= box[2] + 1e-3
                assert rows.min() + 0.5 >= box[1] - 1e-3
                assert rows.max() + 0.5 <= box[3] + 1e-3
    assert any(found["masks"].any() for found in model(small.PICTURES))


def test_a_batch_is_as_good_as_each_picture_alone(model: MaskRCNN) -> None:
    together = model(small.PICTURES)
    for picture, expected in zip(small.PICTURES, together, strict=True):
        (alone,) = model([picture])
        for key in ("labels", "scores", "boxes"):
            torch.testing.assert_close(alone[key], expected[key], rtol=1e-4, atol=1e-3)
        assert (alone["masks"] != expected["masks"]).float().mean() < 1e-3


def test_nothing_found() -> None:
    for changes in ({"score_threshold": 1.0}, {"score_threshold": 1.0, "score_function": "sigmoid"}):
        (found,) = small.mask_rcnn(**changes)(small.PICTURES[:1])
        assert found["boxes"].shape == (0, 4)
        assert found["scores"].shape == found["labels"].shape == (0,)
        assert found["masks"].shape == (0, 1, 90, 128)


def test_no_proposals_at_all() -> None:
    """A head that answers with numbers beyond all bounds finds nothing, and says so in the usual shapes."""
    broken = small.mask_rcnn()
    with torch.no_grad():
        broken.proposal_generator.rpn_head.anchor_deltas.bias.fill_(float("nan"))
    (proposals,) = broken.proposals(small.PICTURES[:1])
    (found,) = broken(small.PICTURES[:1])
    assert proposals["boxes"].shape == (0, 4)
    assert found["boxes"].shape == (0, 4)
    assert found["masks"].shape == (0, 1, 90, 128)


def test_weights_in_half_precision(model: MaskRCNN) -> None:
    found, expected = small.mask_rcnn().bfloat16()(small.PICTURES), model(small.PICTURES)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours["boxes"].dtype is ours["scores"].dtype is torch.float32
        torch.testing.assert_close(ours["scores"][:3], theirs["scores"][:3], rtol=0, atol=0.05)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(model(small.PICTURES)[0]["scores"][:3], expected[0]["scores"][:3], rtol=0, atol=0.05)


def by_hand(logits: torch.Tensor, deltas: torch.Tensor, starts: torch.Tensor, config: MaskRCNNConfig) -> list[Any]:
    """Class by class, box by box: (score, label, box), best first."""
    scores = logits.softmax(1) if config.score_function == "softmax" else logits.sigmoid()
    kept = []
    for label in range(config.num_classes):
        mine: list[tuple[float, int, torch.Tensor]] = []
        for n in scores[:, label].argsort(descending=True).tolist():
            if scores[n, label] <= config.score_threshold:
                continue
            box = boxes.decode(deltas[n, label][None, None], starts[n][None], (10, 10, 5, 5))[0, 0]
            box = torch.stack([box[0].clamp(0, 50), box[1].clamp(0, 40), box[2].clamp(0, 50), box[3].clamp(0, 40)])
            overlaps = [overlap(box, other) for _, _, other in mine]
            if all(value <= config.nms_threshold for value in overlaps):
                mine.append((float(scores[n, label]), label, box))
        kept += mine
    return sorted(kept, key=lambda item: -item[0])[: config.detections_per_image]


def overlap(a: torch.Tensor, b: torch.Tensor) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inner = float(wide.clamp(min=0) * high.clamp(min=0))
    return inner / float((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inner)


@pytest.mark.parametrize("score_function", ["softmax", "sigmoid"])
def test_the_choice_of_detections(score_function: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    config = MaskRCNNConfig(num_classes=3, score_function=score_function, score_threshold=0.2, detections_per_image=30)
    corner = torch.rand(40, 2, generator=generator) * 30
    starts = torch.cat((corner, corner + 5 + torch.rand(40, 2, generator=generator) * 10), dim=1)
    logits = torch.randn(40, 4, generator=generator) * 2
    deltas = torch.randn(40, 3, 4, generator=generator)
    found = select(logits, deltas, starts, (40, 50), config)
    expected = by_hand(logits, deltas, starts, config)
    assert len(expected) == 30 or score_function == "softmax"
    assert found.labels.tolist() == [label for _, label, _ in expected]
    torch.testing.assert_close(found.scores, torch.tensor([score for score, _, _ in expected]))
    torch.testing.assert_close(found.boxes, torch.stack([box for _, _, box in expected]), rtol=1e-4, atol=1e-3)
    deltas[0] = float("inf")
    assert select(logits, deltas, starts, (40, 50), config).boxes.isfinite().all()


def test_pieces_are_means_of_samples() -> None:
    """On a map that rises evenly, the mean of any cell is the value at its centre, half a pixel shifted (aligned)."""
    ramp = torch.arange(32.0).expand(1, 1, 32, 32)
    maps = [torch.full((2, 1, 64, 64), -1.0), torch.cat((ramp, ramp + 100))]  # strides 4 and 8 in a square of 256
    places = [torch.tensor([[40.0, 40.0, 200.0, 180.0]]), torch.tensor([[30.0, 20.0, 150.0, 200.0]])]
    found = pool(maps, places, 7, 256)
    for index, (x1, x2) in enumerate(((40.0, 200.0), (30.0, 150.0))):
        centres = [(x1 + (k + 0.5) * (x2 - x1) / 7) / 8 - 0.5 + 100 * index for k in range(7)]
        torch.testing.assert_close(found[index, 0], torch.tensor(centres).expand(7, 7))
    assert pool(maps, [torch.empty(0, 4)] * 2, 7, 256).shape == (0, 1, 7, 7)


@pytest.mark.parametrize(
    "vision", [small.VISION, replace(small.VISION, ls_init_value=None, use_rope2d=False)], ids=["spatial", "core"]
)
def test_published_names_and_back(vision: Any) -> None:
    model = small.mask_rcnn(vision=vision, score_function="sigmoid")
    published = model.published_state_dict()
    assert published["backbone.net.positional_embedding"].shape == (1, 9, 32)
    assert published["roi_heads.box_predictor.fed_loss_cls_weights"].shape == (4,)
    ropes = {name: value for name, value in published.items() if "freqs" in name}
    if vision.use_rope2d:
        assert len(ropes) == 2 * (2 + 2)
        assert ropes["backbone.net.transformer.resblocks.0.attn.rope.freqs_cos"].shape == (9, 16)
        table = ropes["backbone.net.rope_glb.freqs_sin"]  # 64 cells; column and row 0 stand at position 1
        assert float(table[0, 0]) == pytest.approx(math.sin(1), abs=1e-6)
        assert float(table[9, 0]) == pytest.approx(math.sin(1 / 8 * 3 + 1), abs=1e-6)
        assert float(table[9, 9]) == pytest.approx(math.sin(1 / 8 * 3 + 1), abs=1e-6)
    other = small.mask_rcnn(seed=1, vision=vision, score_function="sigmoid")
    other.load_published({"model": published, "iteration": 7})
    for ours, theirs in zip(model(small.PICTURES[:1]), other(small.PICTURES[:1]), strict=True):
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_loading_is_strict(model: MaskRCNN) -> None:
    published = model.published_state_dict()
    name = "roi_heads.mask_head.deconv.weight"
    table = "backbone.net.rope_glb.freqs_cos"
    for changed, message in (
        ({k: v for k, v in published.items() if k != name}, f"1 missing \\({name}"),
        ({k: v for k, v in published.items() if k != table}, f"1 missing \\({table}"),
        (published | {"roi_heads.extra": torch.zeros(1)}, r"1 not known \(roi_heads.extra"),
        (published | {name: torch.zeros(2)}, rf"{name} \(2,\) for \(16, 16, 2, 2\)"),
        (published | {name: torch.zeros(16, 16, 2, 2, dtype=torch.int8)}, f"not of a floating dtype \\({name}"),
        ({}, "expected a dictionary of tensors"),
        (published | {table: published[table].roll(1, 0)}, f"{table} is a rotary table of another kind"),
    ):
        before = model.roi_heads.box_head.fc1.weight.clone()
        with pytest.raises(CheckpointError, match=message):
            model.load_published(changed)
        assert torch.equal(model.roi_heads.box_head.fc1.weight, before)


def test_another_reference_length_is_not_taken_unseen(model: MaskRCNN) -> None:
    with pytest.raises(CheckpointError, match="another reference length than rope_grid=4"):
        small.mask_rcnn(rope_grid=4).load_published(model.published_state_dict())


def test_on_the_meta_device_the_checkpoints_own_tensors_are_taken(model: MaskRCNN) -> None:
    published = model.published_state_dict()
    with torch.device("meta"):
        empty = MaskRCNN(small.VISION, small.MASK_RCNN)
    empty.load_published(published)
    weight = "roi_heads.box_head.fc1.weight"
    assert empty.state_dict()[weight].data_ptr() == published[weight].data_ptr()
    (ours,), (theirs,) = model(small.PICTURES[2:]), empty.eval()(small.PICTURES[2:])
    assert torch.equal(ours["boxes"], theirs["boxes"])


def test_bad_settings_are_told() -> None:
    with pytest.raises(ConfigError, match="MaskRCNNConfig has no field 'num_clases'; did you mean 'num_classes'"):
        MaskRCNN(small.VISION, {"num_clases": 3})
    with pytest.raises(ConfigError, match="PEConfig: missing"):
        MaskRCNN({"width": 32}, {})
    with pytest.raises(ConfigError, match="score_function must be softmax or sigmoid"):
        MaskRCNN(small.VISION, {"score_function": "relu"})
    with pytest.raises(ConfigError, match="nms_threshold must be from 0 to 1"):
        MaskRCNN(small.VISION, {"nms_threshold": 50})
    with pytest.raises(ConfigError, match="global_blocks names"):
        MaskRCNN(small.VISION, {})
