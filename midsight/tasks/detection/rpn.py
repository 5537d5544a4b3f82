"""The region proposal network: where something might be, whatever it is.

Sources: Faster R-CNN (arXiv 1506.01497), ViTDet's two convolutions, detectron2's anchors and selection.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from midsight.tasks.detection.boxes import Weights, clip, decode, has_area
from midsight.tasks.detection.operators import ops
from midsight.tasks.detection.preprocess import Size

ANCHOR_SIZES = (32, 64, 128, 256, 512)  # pixels, p2 to p6; they do not grow with the image
ANCHOR_RATIOS = (0.5, 1.0, 2.0)  # height / width
DELTA_WEIGHTS: Weights = (1.0, 1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Dense:
    """The network's answer at every anchor, one entry a level: rows, columns, then anchors of a cell."""

    logits: list[Tensor]  # (B, A)
    deltas: list[Tensor]  # (B, A, 4)
    anchors: list[Tensor]  # (A, 4), pixels of the padded square


@dataclass(frozen=True)
class Proposals:
    """What is left for one image, best first."""

    boxes: Tensor  # (N, 4), pixels of the resized image
    logits: Tensor  # (N,)


class RPNHead(nn.Module):
    """Two convolutions, then objectness and deltas; shared over the levels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            OrderedDict(
                conv0=nn.Conv2d(channels, channels, 3, padding=1),
                relu0=nn.ReLU(),
                conv1=nn.Conv2d(channels, channels, 3, padding=1),
                relu1=nn.ReLU(),
            )
        )
        self.objectness_logits = nn.Conv2d(channels, len(ANCHOR_RATIOS), 1)
        self.anchor_deltas = nn.Conv2d(channels, 4 * len(ANCHOR_RATIOS), 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None and not module.weight.is_meta:
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """A map (B, C, H, W) to logits (B, H * W * 3) and deltas (B, H * W * 3, 4)."""
        x = self.conv(x)
        deltas = self.anchor_deltas(x).unflatten(1, (-1, 4))  # B, 3, 4, H, W
        return self.objectness_logits(x).permute(0, 2, 3, 1).flatten(1), deltas.permute(0, 3, 4, 1, 2).flatten(1, 3)


class RegionProposalNetwork(nn.Module):
    """The head, its anchors, and the choice of proposals."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.rpn_head = RPNHead(channels)

    def forward(self, maps: Sequence[Tensor], image_size: int) -> Dense:
        """Answers at every anchor.

        Args:
            maps: p2 to p6, each (B, C, H, W).
            image_size: side of the padded square, pixels.
        """
        answers = [self.rpn_head(x) for x in maps]
        anchors = [
            make_anchors(x.shape[-2], x.shape[-1], image_size // x.shape[-1], size, x.device)
            for x, size in zip(maps, ANCHOR_SIZES, strict=True)
        ]
        return Dense([logits.float() for logits, _ in answers], [deltas.float() for _, deltas in answers], anchors)


def make_anchors(rows: int, columns: int, stride: int, size: float, device: torch.device) -> Tensor:
    """Anchors (rows * columns * 3, 4) of one level, centred on the cells' top left corners, sizes not rounded."""
    ratios = torch.tensor(ANCHOR_RATIOS, dtype=torch.float64)
    width = (size**2 / ratios).sqrt()
    half = 0.5 * torch.stack((width, width * ratios), dim=1)
    shapes = torch.cat((-half, half), dim=1).float().to(device)  # 3, 4
    y, x = (torch.arange(n, device=device, dtype=torch.float32) * stride for n in (rows, columns))
    cells = torch.cartesian_prod(y, x).flip(1).repeat(1, 2)  # rows * columns, 4
    return (cells[:, None] + shapes).flatten(0, 1)


def propose(
    dense: Dense, sizes: Sequence[Size], *, pre_nms: int, post_nms: int, nms_threshold: float
) -> list[Proposals]:
    """The best boxes of each image.

    Args:
        dense: of the network.
        sizes: (height, width) of each image without its padding.
        pre_nms: boxes of each level that are looked at, before any clipping.
        post_nms: most boxes of an image.
        nms_threshold: IoU within a level.
    """
    boxes, logits, levels = best_of_levels(dense, pre_nms)
    return [
        _select(b, s, levels, size, post_nms, nms_threshold) for b, s, size in zip(boxes, logits, sizes, strict=True)
    ]


def best_of_levels(dense: Dense, pre_nms: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best anchors of each level, moved: boxes (B, N, 4), not clipped; logits (B, N); the level of each (N,)."""
    boxes, logits, levels = [], [], []
    for level, (scores, deltas, anchors) in enumerate(zip(dense.logits, dense.deltas, dense.anchors, strict=True)):
        best, index = scores.topk(min(pre_nms, scores.shape[1]), dim=1)  # B, k
        chosen = deltas.gather(1, index[..., None].expand(-1, -1, 4))
        moved = decode(chosen.flatten(0, 1)[:, None], anchors[index].flatten(0, 1), DELTA_WEIGHTS)
        boxes.append(moved.view_as(chosen))
        logits.append(best)
        levels.append(torch.full_like(index[0], level))
    return torch.cat(boxes, 1), torch.cat(logits, 1), torch.cat(levels)


def _select(boxes: Tensor, logits: Tensor, levels: Tensor, size: Size, limit: int, threshold: float) -> Proposals:
    finite = boxes.isfinite().all(dim=1) & logits.isfinite()
    boxes = clip(boxes.where(finite[:, None], boxes.new_zeros(())), size)
    keep = finite & has_area(boxes)
    boxes, logits, levels = boxes[keep], logits[keep], levels[keep]
    best = ops.batched_nms(boxes, logits, levels, threshold)[:limit]
    return Proposals(boxes[best], logits[best])
