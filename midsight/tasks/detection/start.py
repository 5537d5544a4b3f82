"""What finetuning begins with: a tower's weights in a new detector, or another detector's, whatever its classes."""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from midsight.checkpoints.renames import rename, vision_tower
from midsight.configs import PEConfig
from midsight.errors import CheckpointError
from midsight.tasks.detection import deta, mask_rcnn
from midsight.tasks.detection.convert import convert_checkpoint
from midsight.tasks.detection.deta import DETA
from midsight.tasks.detection.mask_rcnn import MaskRCNN
from midsight.tasks.detection.windowed import WindowedBackbone

PATCH_SIZE = 16  # of the published detectors
BY_CLASS = ("cls_score.", "bbox_pred.", "mask_head.predictor.", "fed_loss_cls_weights", "class_embed.")


def detection_tower(tower: PEConfig, grid: int | None = None, patch_size: int = PATCH_SIZE) -> PEConfig:
    """A pretrained tower as a detector has it: features only, another patch size, maybe another position table.

    Args:
        tower: as pretrained.
        grid: side of the position table; None keeps the pretrained one's, as the published Mask R-CNN.
        patch_size: pixels; a tower with a packaged trunk keeps its own.
    """
    side = tower.grid if grid is None else grid
    patch_size = patch_size if tower.stem == "patch" else tower.patch_size
    return replace(
        tower, patch_size=patch_size, image_size=side * patch_size, output_dim=None, pool_type="none", use_ln_post=False
    )


def global_blocks_of(layers: int) -> tuple[int, ...]:
    """The blocks that see the whole picture: the published ones of 50, else the last of each quarter, as in ViTDet."""
    return (12, 24, 36, 49) if layers == 50 else tuple(sorted({layers * (i + 1) // 4 - 1 for i in range(4)} - {-1}))


def load_tower(net: WindowedBackbone, weights: Mapping[str, Tensor]) -> None:
    """A pretrained tower's weights into a detector's backbone; patches and position table are resized if need be.

    Args:
        weights: a vision tower's or a pair's, under the published names. What a backbone does not use (pooling, final
            norm, class token) is left out.

    Raises:
        CheckpointError: the tower is of another kind.
    """
    tower = vision_tower(weights)
    converted = convert_checkpoint(tower, net.config.patch_size, net.config.grid, net.config.use_cls_token)
    wanted = {name: tuple(value.shape) for name, value in net.state_dict().items()}
    wrong = [n for n, shape in wanted.items() if n not in converted or tuple(converted[n].shape) != shape]
    blocks = {name.split(".")[2] for name in converted if name.startswith("transformer.resblocks.")}
    if wrong or len(blocks) != net.layers:
        raise CheckpointError(
            f"the tower's weights do not fit the detector's ({net.layers} blocks of width {net.config.width}); "
            f"found {len(blocks)} blocks, missing or of another shape: {', '.join(wrong[:3]) or 'nothing'}"
        )
    net.load_state_dict({name: converted[name] for name in wanted})


def load_other_classes(detector: MaskRCNN | DETA, published: Mapping[str, Tensor]) -> list[str]:
    """Another detector's weights; layers that depend on the classes stay as they are where their number differs.

    Args:
        published: of a detector of the same sizes, as `published_state_dict` gives it.

    Returns:
        Names of the parameters that were not taken.

    Raises:
        CheckpointError: something else differs.
    """
    layout = deta.LAYOUT if isinstance(detector, DETA) else mask_rcnn.LAYOUT
    taken: dict[str, Tensor] = {}
    fresh: list[str] = []
    for name, own in detector.state_dict().items():
        value = published.get(rename(name, layout.renames))
        if value is not None and name.endswith("positional_embedding"):
            value = value.flatten(0, -2)
        if value is not None and value.shape == own.shape:
            taken[name] = value
        elif any(part in name for part in BY_CLASS):
            fresh.append(name)
        else:
            found = "nothing" if value is None else tuple(value.shape)
            raise CheckpointError(f"{name} is {tuple(own.shape)} here, but the start has {found}; keep its sizes")
    detector.load_state_dict(taken, strict=False)
    return fresh
