"""Encoder and head as one module: what it computes, and what it is held against.

Segmentation gives logits (B, classes, H, W) and depth metres (B, 1, H, W), both at the size of the input, which may be
free. Detection gives tables of detections of a fixed square; see `mask_rcnn` and `deta`.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from midsight.api.opened import SHIPPED
from midsight.errors import InputError, MissingDependencyError, UnknownModelError
from midsight.export.card import Card, HeadCard, Port
from midsight.export.encoder import Encoder, open_encoder
from midsight.export.towers import BATCH, Part, whole_patches
from midsight.files import content_hash
from midsight.pe import VisionTransformer
from midsight.tasks.saved import CONFIG, WEIGHTS, SavedHead, load_head, read_head
from midsight.tasks.windows import whole

DETECTOR = "detector.json"  # as `tasks.detection.saved` writes it, which needs torchvision


@dataclass(frozen=True)
class HeadSize:
    """Of the input."""

    image_size: int | None = None  # side of a fixed square, pixels; None: what the head was trained on
    dynamic: bool = False  # any multiples of the patch size instead


class DenseGraph(nn.Module):
    """Images (B, 3, H, W), whose sides are multiples of the patch size, to the head's maps at that size."""

    def __init__(self, tower: VisionTransformer, head: nn.Module, layers: Sequence[int], norm: bool) -> None:
        super().__init__()
        self.tower, self.head, self.layers, self.norm = tower, head, tuple(layers), norm

    def forward(self, images: Tensor) -> Tensor:
        maps = self.tower.forward_intermediates(images, self.layers, as_maps=True, norm=self.norm)
        return F.interpolate(self.head(maps), size=images.shape[-2:], mode="bilinear", align_corners=False)


def head_part(
    head: str | Path,
    source: str | Path | None,
    size: HeadSize,
    *,
    revision: str | None = None,
    checkpoint: str | Path | None = None,
) -> Part:
    """A head and its encoder on their way into a file.

    Args:
        head: a name that is shipped, a published detector, or the folder of a trained head or detector.
        source: the encoder that the head was trained on; None is the one that it names.
        size: of the input.
        revision: of the encoder.
        checkpoint: weights of a detector.

    Raises:
        UnknownModelError: no such head; the nearest names are told.
        CheckpointError: a folder without a head, or a head that was trained on another encoder.
        InputError: options that do not go together.
        ConfigError: a size that is no multiple of the patch size.
        ExportError: a detector with soft-NMS.
        MissingDependencyError: a detector, and torchvision is not installed.
    """
    folder = _folder_of(head)
    if folder is None:
        from midsight.export.detectors import detector_part

        if source is not None or revision is not None:
            raise InputError(f"{head}: a detector with a tower of its own; leave out SOURCE and --revision")
        return detector_part(head, checkpoint, size.image_size, size.dynamic)
    if checkpoint is not None:
        raise InputError(f"{folder}: a head, whose weights are in its folder; --checkpoint is for whole detectors")
    saved = read_head(folder)
    if saved.task != "detection":
        encoder = open_encoder(folder, saved, source, revision, size.image_size or saved.image_size)
        return _dense_part(folder, saved.task, encoder, size.dynamic)
    from midsight.export.detectors import head_detector_part, refuse_other_sizes

    refuse_other_sizes(str(folder), saved.image_size, size.image_size, size.dynamic)
    return head_detector_part(folder, open_encoder(folder, saved, source, revision, saved.image_size))


def _folder_of(head: str | Path) -> Path | None:
    """The folder of a trained or shipped head; None for a detector with a tower of its own.

    Raises:
        UnknownModelError: neither.
    """
    path, shipped = Path(head).expanduser(), sorted(folder.name for folder in SHIPPED.iterdir() if folder.is_dir())
    if (path / CONFIG).is_file():
        return path
    if (path / DETECTOR).is_file():
        return None
    if str(head) in shipped:
        return SHIPPED / str(head)
    if path.is_dir():
        return path  # whose reader says what is missing
    published = _published()
    if str(head) in published:
        return None
    nearest = difflib.get_close_matches(str(head), [*shipped, *published], n=3, cutoff=0.4)
    hint = f"did you mean {', '.join(nearest)}?" if nearest else "give the folder of a trained one, or a name."
    raise UnknownModelError(
        f"there is no head {str(head)!r}; {hint} Shipped are {', '.join(shipped)}; published are the detectors "
        f"{', '.join(published) or 'that need torchvision'}."
    )


def _published() -> list[str]:
    try:
        from midsight.tasks.detection.load import DETECTORS
    except MissingDependencyError:
        return []
    return list(DETECTORS)


def _dense_part(folder: Path, task: Literal["segmentation", "depth"], encoder: Encoder, dynamic: bool) -> Part:
    head, saved = load_head(folder, encoder.dense, task)
    dense, preprocess = encoder.dense, encoder.preprocess
    side, patch = preprocess.image_size, dense.patch_size
    module = DenseGraph(dense.tower, head, dense.layers, dense.norm).eval()

    def eager(images: Tensor) -> list[Tensor]:
        return [whole(images, lambda x: head(dense(x)), patch)]

    sizes: tuple[int | str, ...] = ("height", "width") if dynamic else (side, side)
    shape = (2, 3, 4 * patch, 5 * patch) if dynamic else (2, 3, side, side)  # free sizes must differ in the trace
    channels = saved.outputs if task == "segmentation" else 1
    gives: Literal["logits", "depth"] = "logits" if task == "segmentation" else "depth"
    card = Card(
        model=dense.name,
        identity=dense.identity,
        tower="image",
        gives=gives,
        layer=None,
        patch_size=patch,
        class_token=dense.tower.use_cls_token,
        preprocess=preprocess,
        context_length=None,
        logit_scale=None,
        input=Port("images", "float32", ("batch", 3, *sizes)),
        output=Port(gives, "float32", ("batch", channels, *sizes)),
        head=_head_card(folder, saved),
    )
    free: dict[int, Any] = {0: BATCH} | (whole_patches(patch) if dynamic else {})
    return Part(card, module, torch.zeros(shape), free, eager)


def _head_card(folder: Path, saved: SavedHead) -> HeadCard:
    depths = saved.depths
    return HeadCard(
        name=folder.name,
        task=saved.task,
        kind=str(getattr(saved.head, "kind", "")),
        identity=content_hash(folder / WEIGHTS),
        layers=tuple(saved.encoder["layers"]),
        norm=bool(saved.encoder["norm"]),
        classes=saved.names if saved.task == "segmentation" else (),
        nearest=depths.nearest if depths else None,
        farthest=depths.farthest if depths else None,
    )
