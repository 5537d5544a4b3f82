"""Assignment and losses, against loops and hand-made cases; and that the losses can be driven down."""

import math
from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from midsight.errors import InputError, ShapeError
from midsight.tasks.detection import boxes, deta_losses, losses, rpn
from midsight.tasks.detection.matching import best_of_each, match, sample
from midsight.tasks.detection.targets import Target, boxes_of_masks
from tests.tasks.detection import small


def target(*rows: tuple[float, float, float, float, int], side: int = 128) -> Target:
    """Objects whose masks fill their boxes (whole pixels)."""
    places = torch.tensor([row[:4] for row in rows]).reshape(-1, 4)
    masks = torch.zeros(len(rows), side, side, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, places.int().tolist(), strict=True):
        mask[y1:y2, x1:x2] = True
    return Target(places, torch.tensor([row[4] for row in rows], dtype=torch.int64), masks)


def test_matching() -> None:
    overlap = torch.tensor([[0.1, 0.5, 0.72, 0.0, 0.2, 0.29], [0.0, 0.6, 0.3, 0.0, 0.1, 0.0], [0.0] * 6])
    index, kind = match(overlap, 0.3, 0.7, low_quality=False)
    assert index.tolist()[:3] == [0, 1, 0]
    assert kind.tolist() == [0, -1, 1, 0, 0, 0]
    _, kind = match(overlap, 0.3, 0.7, low_quality=True)
    assert kind.tolist() == [0, 1, 1, 0, 0, 0]  # the third object overlaps nothing and takes nothing
    index, kind = match(torch.empty(0, 4), 0.3, 0.7, low_quality=True)
    assert kind.tolist() == [0] * 4


@pytest.mark.parametrize(("positives", "expected"), [(100, (10, 30)), (4, (4, 36)), (0, (0, 40))])
def test_sampling(positives: int, expected: tuple[int, int]) -> None:
    kind = torch.zeros(200, dtype=torch.int64)
    kind[:positives], kind[-20:] = 1, -1
    torch.manual_seed(0)
    chosen = sample(kind, 40, 0.25)
    assert tuple(len(part) for part in chosen) == expected
    assert (kind[chosen[0]] == 1).all()
    assert (kind[chosen[1]] == 0).all()
    assert len(set(torch.cat(chosen).tolist())) == 40
    if positives == 100:
        assert chosen[0].tolist() != sample(kind, 40, 0.25)[0].tolist()
    assert [len(part) for part in sample(kind[:3], 40, 0.25)] == [min(3, positives), 3 - min(3, positives)]


def test_an_object_keeps_its_best_predictions() -> None:
    overlap = torch.tensor([[0.9, 0.3, 0.8, 0.7, 0.0], [0.0, 0.0, 0.0, 0.0, 0.6]])
    prediction, of = best_of_each(torch.tensor([0, 1, 2, 3, 4]), torch.tensor([0, 0, 0, 0, 1]), overlap, 2)
    assert sorted(zip(prediction.tolist(), of.tolist(), strict=True)) == [(0, 0), (2, 0), (4, 1)]


def test_boxes_follow_masks() -> None:
    masks = torch.zeros(3, 6, 8, dtype=torch.bool)
    masks[0, 2:4, 1:7] = masks[1, 5, 7] = True
    assert boxes_of_masks(masks).tolist() == [[1, 2, 7, 4], [7, 5, 8, 6], [0, 0, 0, 0]]
    with pytest.raises(ShapeError, match=r"expected \(1, H, W\)"):
        Target(torch.zeros(1, 4), torch.zeros(1, dtype=torch.int64), masks)


def test_proposal_losses() -> None:
    """Two anchors of one image, one of them over the object; every sum by hand."""
    anchors = torch.tensor([[0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 60.0, 60.0]])
    logits, deltas = torch.tensor([[0.5, -1.0]]), torch.tensor([[[0.1, 0.2, 0.3, 0.4], [9.0, 9.0, 9.0, 9.0]]])
    truth = target((1, 0, 11, 10, 0))
    found = losses.rpn_losses(rpn.Dense([logits], [deltas], [anchors]), [truth], losses.MaskRCNNLossConfig())
    expected = -math.log(1 / (1 + math.exp(-0.5))) - math.log(1 - 1 / (1 + math.exp(1.0)))
    assert float(found["loss_rpn_cls"]) == pytest.approx(expected / 256)
    assert float(found["loss_rpn_loc"]) == pytest.approx((0.0 + 0.2 + 0.3 + 0.4) / 256, abs=1e-8)  # shift: 0.1 wide


def test_true_boxes_are_proposals_too() -> None:
    truth = target((10, 10, 40, 50, 2))
    found = losses.sample_proposals(torch.tensor([[60.0, 60.0, 90.0, 90.0]]), truth, 4, losses.MaskRCNNLossConfig())
    assert found.labels.tolist() == [2, 4]
    assert found.boxes.tolist() == [[10, 10, 40, 50], [60, 60, 90, 90]]
    nothing = losses.sample_proposals(torch.rand(5, 4), target(), 4, losses.MaskRCNNLossConfig())
    assert nothing.labels.tolist() == [4] * 5


def test_masks_are_cut_to_boxes() -> None:
    mask = torch.zeros(1, 40, 60, dtype=torch.bool)
    mask[0, 10:30, 20:50] = True
    found = losses.crop_masks(mask, torch.tensor([[20.0, 0.0, 60.0, 40.0]]), 8)[0]
    assert found[2:6, :6].all()
    assert int(found.sum()) == 4 * 6


def test_the_federated_loss_counts_few_classes() -> None:
    logits, labels = torch.randn(6, 9, generator=torch.Generator().manual_seed(0)), torch.tensor([1, 8, 8, 3, 1, 8])
    every = F.binary_cross_entropy_with_logits(logits[:, :8], F.one_hot(labels, 9)[:, :8].float(), reduction="none")
    own = losses.federated_loss(logits, labels, torch.ones(8), least=2)
    assert float(own) == pytest.approx(float(every[:, [1, 3]].sum() / 6))
    weights = torch.tensor([0.0, 1, 0, 1, 0, 5, 0, 0])
    more = losses.federated_loss(logits, labels, weights, least=5)  # only class 5 can be drawn besides
    assert float(more) == pytest.approx(float(every[:, [1, 3, 5]].sum() / 6), rel=1e-5)
    assert losses.federated_weights(torch.tensor([4, 9]), 0.5).tolist() == [2, 3]


def test_deta_stages() -> None:
    settings = deta_losses.DETALossConfig(per_object=2)
    truth = torch.tensor([[0.3, 0.3, 0.2, 0.2], [0.8, 0.8, 0.1, 0.1]])
    shifts = [0.0, 0.01, 0.02, 0.04, 0.2]
    near = torch.stack([truth[0] + torch.tensor([shift, 0, 0, 0]) for shift in shifts])
    refs = torch.cat((near, torch.tensor([[0.8, 0.88, 0.1, 0.1]]), torch.full((6, 4), 0.05)))
    prediction, of = deta_losses.second_stage(refs, truth, settings)
    # three of the 12 queries may be positive; an object keeps two at most, the far object its only one
    pairs = set(zip(prediction.tolist(), of.tolist(), strict=True))
    assert 1 <= len(pairs) <= 3
    assert pairs <= {(0, 0), (1, 0), (2, 0), (3, 0), (5, 1)}
    prediction, of = deta_losses.second_stage(refs, truth, deta_losses.DETALossConfig(second_positive=1.0))
    assert sorted(zip(prediction.tolist(), of.tolist(), strict=True)) == [(0, 0), (1, 0), (2, 0), (3, 0), (5, 1)]
    prediction, of = deta_losses.first_stage(refs, truth, settings)
    assert sorted(zip(prediction.tolist(), of.tolist(), strict=True)) == [(0, 0), (1, 0), (5, 1)]


def layer_by_hand(logits: Tensor, found: Tensor, truth: Target, pairs: Sequence[tuple[int, int]]) -> list[float]:
    """Focal, L1 and GIoU of one image with two objects, weighted and divided by their number."""
    chances, focal = logits.sigmoid(), 0.0
    wanted = {(q, int(truth.labels[g])) for q, g in pairs}
    for q in range(logits.shape[0]):
        for k in range(logits.shape[1]):
            p = float(chances[q, k])
            focal += -0.25 * (1 - p) ** 2 * math.log(p) if (q, k) in wanted else -0.75 * p**2 * math.log(1 - p)
    l1 = sum(float((found[q] - truth.boxes[g]).abs().sum()) for q, g in pairs)
    giou = 0.0
    for q, g in pairs:
        a, b = ([float(c[0] - c[2] / 2), float(c[1] - c[3] / 2), float(c[0] + c[2] / 2), float(c[1] + c[3] / 2)]
                for c in (found[q], truth.boxes[g]))  # fmt: skip
        inner = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
        union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inner
        hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
        giou += 1 - (inner / union - (hull - union) / hull)
    return [focal / 2, 5 * l1 / 2, 2 * giou / 2]


def test_the_losses_of_a_layer() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(1, 5, 3, generator=generator)
    found = torch.rand(1, 5, 4, generator=generator) * 0.4 + 0.2
    truth = Target(torch.rand(2, 4, generator=generator) * 0.4 + 0.2, torch.tensor([2, 0]))
    pairs = [(1, 0), (4, 1), (3, 1)]
    given = [(torch.tensor([q for q, _ in pairs]), torch.tensor([g for _, g in pairs]))]
    values = deta_losses._layer(logits, found, [truth], given, 2, deta_losses.DETALossConfig())
    expected = layer_by_hand(logits[0], found[0], truth, pairs)
    assert [float(v) for v in values.values()] == pytest.approx(expected, rel=1e-4)


TRUTH = (target((10, 12, 60, 50, 1), (70, 30, 100, 110, 3)), target())


def batch() -> Tensor:
    return torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))


def test_gradients_of_mask_rcnn_reach_every_parameter() -> None:
    model = small.mask_rcnn().train()
    torch.manual_seed(0)
    found = losses.mask_rcnn_losses(model, batch(), [(128, 128), (100, 128)], TRUTH, losses.MaskRCNNLossConfig())
    assert list(found) == ["loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg", "loss_mask"]
    torch.stack(list(found.values())).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert model.backbone.net.conv1.weight.grad.abs().max() > 0
    wrong = target((10, 12, 60, 50, 4))
    with pytest.raises(InputError, match="does not fit a model of 4 classes"):
        losses.mask_rcnn_losses(model, batch()[:1], [(128, 128)], [wrong], losses.MaskRCNNLossConfig())


@torch.no_grad()
def test_pictures_without_objects_give_finite_losses() -> None:
    for function in ("softmax", "sigmoid"):
        model = small.mask_rcnn(score_function=function).train()
        found = losses.mask_rcnn_losses(model, batch()[:1], [(128, 128)], TRUTH[1:], losses.MaskRCNNLossConfig())
        assert all(value.isfinite() for value in found.values())
        assert float(found["loss_rpn_loc"]) == float(found["loss_box_reg"]) == float(found["loss_mask"]) == 0
    deta = small.deta().train()
    empty = deta_losses.deta_losses(
        deta, torch.zeros(1, 3, 160, 160), [(128, 128)], TRUTH[1:], deta_losses.DETALossConfig()
    )
    assert all(value.isfinite() for value in empty.values())


def test_gradients_of_deta_reach_every_parameter() -> None:
    model = small.deta().train()
    torch.manual_seed(0)
    pixels = F.pad(batch(), (0, 32, 0, 32))
    found = deta_losses.deta_losses(model, pixels, [(128, 128), (100, 128)], TRUTH, deta_losses.DETALossConfig())
    assert list(found) == [f"loss_{n}{s}" for s in ("", "_enc") for n in ("ce", "bbox", "giou")]
    torch.stack(list(found.values())).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_encode_is_what_the_box_loss_wants() -> None:
    start, goal = torch.tensor([[10.0, 10, 30, 50]]), torch.tensor([[12.0, 14, 22, 64]])
    found = boxes.encode(goal, start, (10.0, 10.0, 5.0, 5.0))[0].tolist()
    assert found == pytest.approx([10 * (17 - 20) / 20, 10 * (39 - 30) / 40, 5 * math.log(0.5), 5 * math.log(50 / 40)])
