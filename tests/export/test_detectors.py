"""Exported detectors find what the package's own find, in one picture and in seven."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import ops

import midsight
from midsight import checkpoints
from midsight.configs import PreprocessConfig
from midsight.errors import ExportError, InputError
from midsight.export import ExportConfig, Exported, Runner, export, read_card
from midsight.export.agree import compare_detections
from midsight.export.boxes import first_of_each, picture_sizes, table
from midsight.export.deta import DETAGraph
from midsight.export.detectors import _found, _found_by_deta
from midsight.export.mask_rcnn import MaskRCNNGraph
from midsight.export.match import pair_up
from midsight.tasks.detection import DETA, MaskRCNN
from midsight.tasks.detection.saved import Categories, save_detector
from midsight.tasks.saved import SavedHead, save_head
from tests.tasks.detection import small

QUICK = ExportConfig(rounds=1, sample_seconds=0.0)
SIDE = 128
VISION = replace(small.VISION, image_size=SIDE)
EVERYWHERE = dict(vision=VISION, window_size=8, global_blocks=(0, 1), rope_grid=8)  # as a plain tower attends
PICTURES = (*small.PICTURES, small.picture(128, 70, 4))


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random heads of detection in a folder, over the tower of a Mask R-CNN that attends everywhere."""
    detector, folder = small.mask_rcnn(0, **EVERYWHERE), tmp_path_factory.mktemp("detect")
    tower = checkpoints.save_pretrained(
        folder / "tower", detector.backbone.net.state_dict(), name="tower", vision=VISION, text=None,
        preprocess=PreprocessConfig(SIDE, mean=(127 / 255,) * 3, std=(127 / 255,) * 3),
    )  # fmt: skip
    about = midsight.api.dense_encoder(midsight.load(tower, device="cpu")).describe() | {"name": str(tower)}
    weights = {k: v for k, v in detector.state_dict().items() if not k.startswith("backbone.net.")}
    saved = SavedHead("detection", detector.config, about, SIDE, ("a", "b", "c", "d"))
    return save_head(folder / "heads", saved, weights)


def agrees(runner: Runner, detector: MaskRCNN | DETA, pictures: tuple[torch.Tensor, ...]) -> None:
    """The same boxes, scores and labels as the detector finds in the pictures themselves."""
    batch = detector._batch(list(pictures))
    found = runner.run(batch.pixels.numpy())
    for row, whole in enumerate(detector(list(pictures))):
        used = found["labels"][row] >= 0
        assert used.sum() == len(whole["labels"]) > 3  # otherwise little is compared
        assert (found["scores"][row][~used] == 0).all()
        (high, wide), (height, width) = batch.resized[row], batch.original[row]
        boxes = found["boxes_xyxy"][row][used] * np.array([width / wide, height / high] * 2)
        np.testing.assert_array_equal(found["labels"][row][used], whole["labels"])
        np.testing.assert_allclose(found["scores"][row][used], whole["scores"], atol=1e-4)
        np.testing.assert_allclose(boxes, whole["boxes"], atol=0.02)


def own(folder: Path, detector: MaskRCNN | DETA) -> Path:
    """A detector with a tower of its own in a folder; category ids from 10."""
    count = detector.config.num_classes
    return save_detector(folder / "mine", detector, Categories(tuple(range(10, 10 + count)), tuple("abcde"[:count])))


def check_export(source: Path, detector: MaskRCNN | DETA, to: str, out: Path) -> Exported:
    """The file gives what the detector gives, for several pictures, for one, and where nothing is."""
    (one,) = export(None, out, to, head=source, config=QUICK)
    runner, side, rows = Runner(one.path), detector.config.image_size, detector.config.detections_per_image
    agrees(runner, detector, PICTURES)
    agrees(runner, detector, PICTURES[1:2])
    if isinstance(detector, MaskRCNN):  # DETA gives all its queries, whatever their score
        found = runner.run(np.zeros((2, 3, side, side), np.float32))
        assert (found["labels"] == -1).all()
        assert found["masks"].shape == (2, rows, 28, 28)
        assert not any(found[name].any() for name in ("scores", "boxes_xyxy", "masks"))
    assert {agreement.input[0] for agreement in one.agreements} == {1, 7}
    assert all((agreement.same or 0) > 0.98 and agreement.pairs for agreement in one.agreements)
    return one


def test_heads_over_an_encoder(heads: Path, tmp_path: Path) -> None:
    one = check_export(heads, small.mask_rcnn(0, **EVERYWHERE), "pt2", tmp_path / "out")
    assert [agreement.output for agreement in one.agreements[:3]] == ["boxes_xyxy", "scores", "masks"]
    card = read_card(one.path)
    assert card == one.card
    assert card.head is not None
    assert (one.path.stem, card.model, card.head.kind) == ("detection", "tower", "mask_rcnn")
    assert (card.head.fit, card.head.longest, card.head.score_threshold) == ("pad", SIDE, 0.05)
    assert (card.head.classes, card.head.category_ids) == (("a", "b", "c", "d"), (1, 2, 3, 4))
    shapes = {port.name: port.shape[1:] for port in card.outputs}
    assert shapes == {"boxes_xyxy": (20, 4), "scores": (20,), "labels": (20,), "masks": (20, 28, 28)}
    (file,) = json.loads((tmp_path / "out" / "report.json").read_text())["files"]
    assert [port["name"] for port in file["others"]] == ["scores", "labels", "masks"]


@pytest.mark.slow
@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_heads_over_an_encoder_in_other_formats(to: str, heads: Path, tmp_path: Path) -> None:
    one = check_export(heads, small.mask_rcnn(0, **EVERYWHERE), to, tmp_path / "out")
    if to == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(one.path), providers=["CPUExecutionProvider"])
        assert [port.name for port in session.get_outputs()] == [port.name for port in one.card.outputs]


@pytest.mark.slow
@pytest.mark.parametrize("to", ["onnx", "openvino", "pt2"])
def test_deta(to: str, tmp_path: Path) -> None:
    detector = small.deta(0)
    one = check_export(own(tmp_path, detector), detector, to, tmp_path / "out")
    assert one.card.head is not None
    assert (one.card.head.kind, one.card.head.longest) == ("deta", 160 - 32)
    assert one.card.head.category_ids == (10, 11, 12, 13, 14)
    assert [port.name for port in one.card.others] == ["scores", "labels"]


@pytest.mark.slow
def test_mask_rcnn_with_a_tower_of_its_own(tmp_path: Path) -> None:
    detector = small.mask_rcnn(0)  # whose blocks attend within windows
    one = check_export(own(tmp_path, detector), detector, "pt2", tmp_path / "out")
    assert one.card.model == "mine"
    assert one.card.preprocess is not None
    assert one.card.preprocess.mean == (127 / 255,) * 3


VARIANTS = {
    "sigmoid, few rows": lambda: small.mask_rcnn(
        3, score_function="sigmoid", score_threshold=0.02, detections_per_image=5
    ),
    "few proposals": lambda: small.mask_rcnn(1, rpn_pre_nms=9, rpn_post_nms=7),
    "scores of which none is enough": lambda: small.mask_rcnn(0, score_threshold=0.9999),
    "queries of every level": lambda: small.deta(1),
    "more queries than the suppression leaves": lambda: small.deta(1, num_queries=500),
}


@pytest.mark.parametrize("variant", VARIANTS)
@torch.inference_mode()
def test_the_graph_is_the_detector(variant: str) -> None:
    detector = VARIANTS[variant]()
    batch = detector._batch(list(PICTURES))
    if isinstance(detector, DETA):
        found, rows = DETAGraph(detector)(batch.pixels), _found_by_deta(detector, batch.pixels, batch.resized)
    else:
        graph = MaskRCNNGraph(detector, torch.nn.Identity())
        found, rows = graph(batch.pixels), _found(detector, batch.pixels, batch.resized)
    for picture, row in enumerate(rows):
        used = found[2][picture] >= 0
        assert bool(used.any()) == (variant != "scores of which none is enough")
        for ours, name in zip(found, ("boxes_xyxy", "scores", "labels", "masks"), strict=False):
            torch.testing.assert_close(ours[picture][used], row[name], rtol=1e-5, atol=1e-5)


def test_sizes_that_are_not_the_detectors_are_refused(heads: Path, tmp_path: Path) -> None:
    folder = save_detector(tmp_path / "mine", small.deta(0))
    for head, side in ((heads, 128), (folder, 160)):
        with pytest.raises(InputError, match=rf"squares of {side} pixels, but free sizes .*--dynamic"):
            export(None, tmp_path / "out", "onnx", head=head, dynamic=True)
        with pytest.raises(InputError, match=rf"squares of {side} pixels, but 64 were asked for"):
            export(None, tmp_path / "out", "onnx", head=head, image_size=64)
    assert not (tmp_path / "out").exists()


def test_soft_nms_is_refused_with_what_to_do(tmp_path: Path) -> None:
    folder = save_detector(tmp_path / "mine", small.deta(0, soft_nms=True))
    with pytest.raises(ExportError, match=r"soft-NMS \(soft_nms\) .* Set soft_nms to false in detector.json"):
        export(None, tmp_path / "out", "onnx", head=folder, config=QUICK)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_other_detections_are_refused(heads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = MaskRCNNGraph.forward

    def forward(self: MaskRCNNGraph, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        boxes, scores, labels, masks = honest(self, images)
        return boxes, scores, torch.where(labels < 0, labels, (labels + 1) % 4), masks

    monkeypatch.setattr(MaskRCNNGraph, "forward", forward)
    with pytest.raises(ExportError, match=r"detection.pt2: .* differs from eager: .*, the same \d+.*at least 98%"):
        export(None, tmp_path / "out", "pt2", head=heads, config=QUICK)
    assert list(tmp_path.iterdir()) == []


def test_the_picture_in_a_padded_square_is_found_again() -> None:
    for detector in (small.mask_rcnn(0), small.deta(0)):
        batch = detector._batch([*PICTURES, small.picture(3, 300), small.picture(300, 3)])
        assert [tuple(size) for size in picture_sizes(batch.pixels).tolist()] == batch.resized
    assert picture_sizes(torch.zeros(1, 3, 4, 4)).tolist() == [[0, 0]]


def test_suppression_of_many_pictures_is_that_of_each() -> None:
    dice = torch.Generator().manual_seed(0)
    corners = torch.rand(400, 2, generator=dice) * 80
    boxes = torch.cat((corners, corners + 5 + torch.rand(400, 2, generator=dice) * 15), dim=1)
    scores = torch.rand(400, generator=dice)
    image, label = (torch.randint(0, n, (400,), generator=dice) for n in (3, 4))
    index, place = first_of_each(
        boxes, scores, image, label, labels=4, side=100.0, threshold=0.3, limit=60, batch=3
    )  # fmt: skip
    rows = table(scores[index], place, 3, 60)
    for picture in range(3):
        mine = (image == picture).nonzero()[:, 0]
        expected = mine[ops.batched_nms(boxes[mine], scores[mine], label[mine], 0.3)]
        assert 60 < len(expected) < len(mine)  # both the suppression and the limit have something to do
        assert torch.equal(index[place // 60 == picture], expected[:60])
        assert torch.equal(rows[picture], scores[expected[:60]])


def test_detections_are_paired_by_label_and_overlap() -> None:
    boxes = np.array([[[0, 0, 10, 10], [20, 20, 40, 40], [50, 0, 60, 10], [0, 0, 0, 0]]], np.float32)
    labels = np.array([[1, 2, 3, -1]])
    scores = np.array([[0.9, 0.8, 0.7, 0]], np.float32)
    expected = dict(boxes_xyxy=boxes, scores=scores, labels=labels)
    other = dict(  # the first two in the other order, the third of another class
        boxes_xyxy=boxes[:, [1, 0, 2, 3]] + np.float32(0.1), scores=scores, labels=np.array([[2, 1, 1, -1]])
    )
    first, second, same = pair_up(other, expected)
    assert (first[1].tolist(), second[1].tolist(), same) == ([0, 1], [1, 0], pytest.approx(2 / 3))
    box, score = compare_detections(other, expected, (1, 3, 100, 200))
    assert box.max_error == pytest.approx(0.1, abs=1e-5)
    assert box.relative_error == pytest.approx(0.1 / 200, abs=1e-7)
    assert score.max_error == pytest.approx(0.1)
    empty = dict(boxes_xyxy=boxes * 0, scores=scores * 0, labels=labels * 0 - 1)
    assert pair_up(empty, empty)[2] is None
    assert pair_up(empty, expected)[2] == 0
