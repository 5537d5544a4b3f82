"""The pieces of the detectors against plain loops: anchors, boxes, levels, masks, deformable attention, soft-NMS."""

import math

import pytest
import torch
from torch import Tensor

from midsight.tasks.detection import boxes, deformable, masks, rpn
from midsight.tasks.detection.deta_transformer import anchor_logits, choose_queries
from midsight.tasks.detection.nms import soft_nms
from midsight.tasks.detection.roi_heads import level_of


@pytest.fixture
def dice() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def random_boxes(count: int, side: float = 100.0, seed: int = 0) -> Tensor:
    """Boxes within a square, at least a pixel wide."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * side * 0.7
    return torch.cat((corner, corner + 1 + torch.rand(count, 2, generator=generator) * side * 0.29), dim=1)


def iou(a: Tensor, b: Tensor) -> float:
    wide = min(float(a[2]), float(b[2])) - max(float(a[0]), float(b[0]))
    high = min(float(a[3]), float(b[3])) - max(float(a[1]), float(b[1]))
    inner = max(wide, 0.0) * max(high, 0.0)
    area = [float((c[2] - c[0]) * (c[3] - c[1])) for c in (a, b)]
    return inner / (sum(area) - inner)


def test_anchors() -> None:
    found = rpn.make_anchors(2, 3, stride=8, size=32, device=torch.device("cpu")).view(2, 3, 3, 4)
    for row in range(2):
        for column in range(3):
            for index, ratio in enumerate((0.5, 1.0, 2.0)):
                wide = math.sqrt(32 * 32 / ratio)
                high = wide * ratio
                expected = [column * 8 - wide / 2, row * 8 - high / 2, column * 8 + wide / 2, row * 8 + high / 2]
                assert found[row, column, index].tolist() == pytest.approx(expected, abs=1e-4)


def test_boxes_move_by_the_formula_and_back(dice: torch.Generator) -> None:
    weights = (10.0, 10.0, 5.0, 5.0)
    start, deltas = random_boxes(6), torch.randn(6, 2, 4, generator=dice) * 3
    deltas[0, 0, 2] = 100.0  # beyond the clamp
    found = boxes.decode(deltas, start, weights)
    for n in range(6):
        x1, y1, x2, y2 = start[n].tolist()
        for k in range(2):
            dx, dy, dw, dh = (d / w for d, w in zip(deltas[n, k].tolist(), weights, strict=True))
            wide = (x2 - x1) * math.exp(min(dw, math.log(1000 / 16)))
            high = (y2 - y1) * math.exp(min(dh, math.log(1000 / 16)))
            x, y = (x1 + x2) / 2 + dx * (x2 - x1), (y1 + y2) / 2 + dy * (y2 - y1)
            expected = [x - wide / 2, y - high / 2, x + wide / 2, y + high / 2]
            assert found[n, k].tolist() == pytest.approx(expected, rel=1e-4, abs=1e-3)
    target = random_boxes(6, seed=1)
    back = boxes.decode(boxes.encode(target, start, weights)[:, None], start, weights)[:, 0]
    torch.testing.assert_close(back, target, rtol=1e-4, atol=1e-3)


def test_proposals_are_the_best_of_each_level_after_nms(dice: torch.Generator) -> None:
    """A loop over all boxes of one image, one level after the other."""
    sides, size = (8, 4, 2, 1, 1), (50, 60)
    logits = [torch.randn(1, side * side * 3, generator=dice) for side in sides]
    deltas = [torch.randn(1, side * side * 3, 4, generator=dice) * 0.5 for side in sides]
    anchors = [
        rpn.make_anchors(side, side, 64 // side, anchor, torch.device("cpu"))
        for side, anchor in zip(sides, (8, 16, 32, 64, 64), strict=True)
    ]
    logits[1][0, 0], deltas[1][0, 0, 0] = 9.0, float("nan")  # the best of all is no number
    dense = rpn.Dense(logits, deltas, anchors)
    (found,) = rpn.propose(dense, [size], pre_nms=30, post_nms=25, nms_threshold=0.5)
    kept: list[tuple[float, Tensor]] = []
    for score, delta, anchor in zip(logits, deltas, anchors, strict=True):
        level: list[tuple[float, Tensor]] = []
        for index in score[0].argsort(descending=True)[:30]:
            box = boxes.decode(delta[0, index][None, None], anchor[index][None], (1.0, 1.0, 1.0, 1.0))[0, 0]
            box = torch.stack([box[i].clamp(0, size[1 - i % 2]) for i in range(4)])
            empty = not (box[2] > box[0] and box[3] > box[1])
            if not empty and all(iou(box, other) <= 0.5 for _, other in level):
                level.append((float(score[0, index]), box))
        kept += level
    kept = sorted(kept, key=lambda pair: -pair[0])[:25]
    assert len(kept) == 25
    torch.testing.assert_close(found.logits, torch.tensor([score for score, _ in kept]))
    torch.testing.assert_close(found.boxes, torch.stack([box for _, box in kept]), rtol=1e-4, atol=1e-3)


def test_a_box_is_pooled_from_the_map_of_its_size() -> None:
    sides = torch.tensor([0.0, 10.0, 111.0, 113.0, 223.0, 225.0, 447.0, 449.0, 5000.0])
    square = torch.stack((sides * 0, sides * 0, sides, sides), dim=1)
    assert level_of(square, 4).tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3]


def test_masks_are_sampled_at_pixel_centres(dice: torch.Generator) -> None:
    small = torch.rand(4, 5, 5, generator=dice)
    places = torch.tensor(
        [[3.3, 2.7, 17.9, 11.2], [-4.0, -3.0, 9.5, 30.0], [15.0, 8.0, 15.4, 8.2], [0.0, 0.0, 20.0, 16.0]]
    )
    found = masks.paste(small, places, (16, 20))
    for n, (x1, y1, x2, y2) in enumerate(places.tolist()):
        for row in range(16):
            for column in range(20):
                u = (column + 0.5 - x1) / (x2 - x1) * 5 - 0.5
                v = (row + 0.5 - y1) / (y2 - y1) * 5 - 0.5
                value = 0.0
                for i in range(math.floor(v), math.floor(v) + 2):
                    for j in range(math.floor(u), math.floor(u) + 2):
                        if 0 <= i < 5 and 0 <= j < 5:
                            value += (1 - abs(v - i)) * (1 - abs(u - j)) * float(small[n, i, j])
                if abs(value - 0.5) > 1e-5:
                    assert bool(found[n, row, column]) == (value > 0.5), (n, row, column)
    assert found[0].any()
    assert not found[2].any()  # lies between pixel centres
    assert masks.paste(small[:0], places[:0], (16, 20)).shape == (0, 16, 20)


def sampled_by_hand(image: Tensor, x: float, y: float) -> Tensor:
    """A map (H, W, D) at a place between 0 and 1, bilinear, zeros outside."""
    high, wide, dim = image.shape
    u, v = x * wide - 0.5, y * high - 0.5
    value = torch.zeros(dim)
    for i in (math.floor(v), math.floor(v) + 1):
        for j in (math.floor(u), math.floor(u) + 1):
            if 0 <= i < high and 0 <= j < wide:
                value += (1 - abs(v - i)) * (1 - abs(u - j)) * image[i, j]
    return value


def test_deformable_attention_is_a_sum_of_samples(dice: torch.Generator) -> None:
    shapes, heads, dim, points, queries = [(4, 6), (2, 3)], 2, 3, 2, 5
    tokens = sum(h * w for h, w in shapes)
    value = torch.randn(2, tokens, heads, dim, generator=dice)
    locations = torch.rand(2, queries, heads, 2, points, 2, generator=dice) * 1.4 - 0.2
    weights = torch.rand(2, queries, heads, 2, points, generator=dice)
    found = deformable.deformable_attention(value, shapes, locations, weights).view(2, queries, heads, dim)
    for b in range(2):
        for h in range(heads):
            maps = [m.view(*s, dim) for m, s in zip(value[b, :, h].split([24, 6]), shapes, strict=True)]
            for q in range(queries):
                expected = torch.zeros(dim)
                for level in range(2):
                    for p in range(points):
                        x, y = locations[b, q, h, level, p].tolist()
                        expected += weights[b, q, h, level, p] * sampled_by_hand(maps[level], x, y)
                torch.testing.assert_close(found[b, q, h], expected, rtol=1e-4, atol=1e-5)


def test_places_of_points_and_boxes(dice: torch.Generator) -> None:
    """Offsets are in cells for points and in parts of the box for boxes; padding counts as zero."""
    layer = deformable.DeformableAttention(8, levels=1, heads=1, points=1)
    with torch.no_grad():
        layer.value_proj.weight.copy_(torch.eye(8))
        layer.output_proj.weight.copy_(torch.eye(8))
        layer.sampling_offsets.bias.copy_(torch.tensor([1.0, 0.5]))
    memory = torch.randn(1, 12, 8, generator=dice)
    image = memory[0].view(3, 4, 8)
    padding = torch.zeros(1, 12, dtype=torch.bool)
    query = torch.zeros(1, 1, 8)
    point = layer(query, torch.tensor([0.3, 0.4]).view(1, 1, 1, 2), memory, [(3, 4)], padding)
    torch.testing.assert_close(point[0, 0], sampled_by_hand(image, 0.3 + 1 / 4, 0.4 + 0.5 / 3))
    box = layer(query, torch.tensor([0.3, 0.4, 0.2, 0.6]).view(1, 1, 1, 4), memory, [(3, 4)], padding)
    torch.testing.assert_close(box[0, 0], sampled_by_hand(image, 0.3 + 1.0 * 0.2 / 2, 0.4 + 0.5 * 0.6 / 2))
    padding[0, ::2] = True
    hidden = layer(query, torch.tensor([0.3, 0.4]).view(1, 1, 1, 2), memory, [(3, 4)], padding)
    image = memory[0].masked_fill(padding[0][:, None], 0.0).view(3, 4, 8)
    torch.testing.assert_close(hidden[0, 0], sampled_by_hand(image, 0.3 + 1 / 4, 0.4 + 0.5 / 3))


def test_position_codes() -> None:
    padding = torch.ones(1, 4, 5, dtype=torch.bool)
    padding[:, :3, :2] = False
    code = deformable.grid_code(padding, 8)[0]
    for row in range(3):
        for column in range(2):
            expected = []
            for at, count in ((row, 3), (column, 2)):
                place = (at + 0.5) / (count + 1e-6) * 2 * math.pi
                for i in range(2):
                    angle = place / 10_000 ** (2 * i / 4)
                    expected += [math.sin(angle), math.cos(angle)]
            assert code[row, column].tolist() == pytest.approx(expected, abs=1e-4)


def test_first_stage_anchors() -> None:
    padding = torch.ones(1, 10, 30, dtype=torch.bool)
    padding[:, :6, :20] = False
    found = anchor_logits(padding, level=2).sigmoid().view(10, 30, 4)
    for row in range(10):
        for column in range(30):
            box = ((column + 0.5) / 20, (row + 0.5) / 6, 0.2, 0.2)
            inside = all(0.01 < value < 0.99 for value in box)
            assert found[row, column].tolist() == pytest.approx(box if inside else (1, 1, 1, 1), abs=1e-5)


def chosen_by_hand(places: Tensor, scores: Tensor, levels: Tensor, count: int) -> list[int]:
    """NMS within levels, then the first of every level, then the best of the rest."""
    corners = torch.cat((places[:, :2] - places[:, 2:] / 2, places[:, :2] + places[:, 2:] / 2), dim=1).clamp(0, 1)
    kept: list[int] = []
    for index in scores.argsort(descending=True).tolist():
        rivals = [k for k in kept if levels[k] == levels[index]]
        if all(iou(corners[index], corners[k]) <= 0.9 for k in rivals):
            kept.append(index)
    if len(kept) < count:
        return scores.argsort(descending=True)[:count].tolist()
    number, first = int(levels.max()) + 1, list[int]()
    for level in range(number):
        first += [k for k in kept if levels[k] == level][: count // number]
    rest = [k for k in kept if k not in first][: count - len(first)]
    return [k for k in kept if k in first or k in rest]


@pytest.mark.parametrize(("count", "crowd"), [(10, 0), (25, 0), (50, 40)])
def test_every_level_gets_its_share_of_queries(count: int, crowd: int) -> None:
    generator = torch.Generator().manual_seed(3)
    places = torch.cat((torch.rand(60, 2, generator=generator), 0.3 * torch.rand(60, 2, generator=generator)), dim=1)
    places[:crowd] = places[0]  # with a crowd NMS leaves too few, and the best of all are taken as they are
    levels = torch.arange(3).repeat_interleave(torch.tensor([40, 15, 5]))
    scores = torch.randn(60, generator=generator) - levels  # the first level is the best
    found = choose_queries(places, scores, levels, count)
    assert found.tolist() == chosen_by_hand(places, scores, levels, count)
    assert len(found) == count


def soft_nms_by_hand(
    places: Tensor, scores: Tensor, labels: Tensor, method: str, threshold: float, scale: float
) -> list[tuple[int, float]]:
    left, taken = dict(enumerate(scores.tolist())), []
    while left:
        best = max(left, key=lambda index: left[index])
        if left[best] <= 0.001:
            break
        taken.append((best, left.pop(best)))
        for index in left:
            if labels[index] != labels[best]:
                continue
            overlap = iou(places[index], places[best])
            if method == "gaussian":
                left[index] *= math.exp(-(overlap**2) / 0.5)
            elif overlap > threshold:
                left[index] *= {"quad": (1 - overlap) ** scale, "linear": 1 - overlap, "hard": 0.0}[method]
    return taken


@pytest.mark.parametrize("method", ["quad", "linear", "gaussian", "hard"])
def test_soft_nms(method: str, dice: torch.Generator) -> None:
    places, labels = random_boxes(80, side=40), torch.randint(0, 3, (80,), generator=dice)
    scores = torch.rand(80, generator=dice) ** 4
    index, kept = soft_nms(places, scores, labels, method=method, threshold=0.3, quad_scale=0.4)  # type: ignore[arg-type]
    expected = soft_nms_by_hand(places, scores, labels, method, 0.3, 0.4)
    assert len(expected) < 80
    assert any(value < float(scores[n]) - 1e-3 for n, value in expected) or method == "hard"
    assert index.tolist() == [n for n, _ in expected]
    torch.testing.assert_close(kept, torch.tensor([value for _, value in expected]), rtol=1e-4, atol=1e-6)


def test_soft_nms_of_nothing() -> None:
    index, kept = soft_nms(
        torch.empty(0, 4), torch.empty(0), torch.empty(0, dtype=torch.int64), method="quad", threshold=0.7
    )
    assert index.shape == kept.shape == (0,)
    assert index.dtype == torch.int64
