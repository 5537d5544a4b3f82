"""Settings of the two detectors; the defaults are those of the published COCO models. No torch.

Sources: PE paper, tables 24 and 25; the published configurations of `apps/detection`.
"""

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from midsight.configs import PEConfig
from midsight.errors import ConfigError

C = TypeVar("C", "MaskRCNNConfig", "DETAConfig", PEConfig)


@dataclass(frozen=True)
class MaskRCNNConfig:
    """Mask R-CNN on a simple feature pyramid (ViTDet)."""

    image_size: int = 1024  # side of the padded square, pixels
    window_size: int = 32  # tokens
    global_blocks: tuple[int, ...] = (12, 24, 36, 49)  # 0-based
    rope_grid: float = 32
    channels: int = 256  # of the pyramid's maps
    box_fc: int = 1024
    num_classes: int = 80
    score_function: Literal["softmax", "sigmoid"] = "softmax"  # sigmoid: LVIS, trained with the federated loss
    score_threshold: float = 0.05
    detections_per_image: int = 100
    rpn_pre_nms: int = 1000  # of each level
    rpn_post_nms: int = 1000
    rpn_nms_threshold: float = 0.7
    nms_threshold: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "global_blocks", tuple(self.global_blocks))  # lists come from JSON and TOML
        whole = ("image_size", "window_size", "channels", "box_fc", "num_classes", "detections_per_image")
        _at_least_one(self, *whole, "rpn_pre_nms", "rpn_post_nms")
        _in_unit_range(self, "score_threshold", "rpn_nms_threshold", "nms_threshold")
        if self.score_function not in ("softmax", "sigmoid"):
            raise ConfigError(f"score_function must be softmax or sigmoid, got {self.score_function!r}")


@dataclass(frozen=True)
class DETAConfig:
    """DETA: two-stage deformable DETR with IoU assignment and NMS."""

    image_size: int = 1824  # side of the padded square, pixels; pictures get a longer side of 32 less
    window_size: int = 24  # tokens
    global_blocks: tuple[int, ...] = (12, 24, 36, 49)  # 0-based
    rope_grid: float = 16  # as published, although the position table and the windows have 24
    num_classes: int = 91  # the index is COCO's category id, 0 is not used
    num_queries: int = 900  # the published figures with test-time augmentation have 2000
    num_feature_levels: int = 5
    hidden_dim: int = 256
    heads: int = 8
    encoder_layers: int = 6
    decoder_layers: int = 6
    feedforward_dim: int = 2048
    points: int = 4  # sampled by each head on each level
    detections_per_image: int = 100
    nms_threshold: float = 0.7
    soft_nms: bool = False
    soft_nms_method: Literal["quad", "linear", "gaussian", "hard"] = "quad"
    quad_scale: float = 0.5
    tta_sizes: tuple[int, ...] = (1728, 1536, 1344)  # longer sides of the views beside the base, pixels
    # shortest and longest square root of the area that a view's boxes may have, original pixels; the base first
    tta_box_ranges: tuple[tuple[float, float], ...] = ((0, 10000), (0, 10000), (64, 10000), (64, 10000))

    def __post_init__(self) -> None:
        object.__setattr__(self, "global_blocks", tuple(self.global_blocks))
        object.__setattr__(self, "tta_sizes", tuple(self.tta_sizes))
        object.__setattr__(self, "tta_box_ranges", tuple((low, high) for low, high in self.tta_box_ranges))
        layers = ("heads", "encoder_layers", "decoder_layers", "feedforward_dim", "points")
        _at_least_one(self, "image_size", "window_size", "num_classes", "num_queries", "detections_per_image", *layers)
        _in_unit_range(self, "nms_threshold")
        if self.num_feature_levels < 3:
            raise ConfigError(f"num_feature_levels must be at least 3, got {self.num_feature_levels}")
        if self.hidden_dim != 256 or self.hidden_dim % self.heads:
            raise ConfigError(
                f"hidden_dim must be 256 (a query's code has four times 128 channels) and a multiple of heads, "
                f"got {self.hidden_dim} with {self.heads} heads"
            )
        if self.soft_nms_method not in ("quad", "linear", "gaussian", "hard"):
            raise ConfigError(f"soft_nms_method: quad, linear, gaussian or hard, got {self.soft_nms_method!r}")
        if len(self.tta_box_ranges) != len(self.tta_sizes) + 1:
            raise ConfigError(f"tta_box_ranges needs one range for the base and each of tta_sizes {self.tta_sizes}")
        if any(not 1 <= size <= self.image_size for size in self.tta_sizes):
            raise ConfigError(f"tta_sizes must be from 1 to image_size {self.image_size}, got {self.tta_sizes}")


def as_config(kind: type[C], values: C | Mapping[str, Any]) -> C:
    """A configuration from its fields, or itself.

    Raises:
        ConfigError: a field that it does not have, or a value that cannot be.
    """
    if isinstance(values, kind):
        return values
    if not isinstance(values, Mapping):
        raise ConfigError(f"expected a {kind.__name__} or a dictionary of its fields, got {type(values).__name__}")
    known = [field.name for field in dataclasses.fields(kind)]
    for name in values:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {nearest[0]!r}?" if nearest else f"its fields are {', '.join(known)}"
            raise ConfigError(f"{kind.__name__} has no field {name!r}; {hint}")
    try:
        return kind(**values)
    except TypeError as error:
        raise ConfigError(f"{kind.__name__}: {str(error).split('() ')[-1]}") from error


def _at_least_one(config: MaskRCNNConfig | DETAConfig, *names: str) -> None:
    for name in names:
        if getattr(config, name) < 1:
            raise ConfigError(f"{name} must be at least 1, got {getattr(config, name)}")


def _in_unit_range(config: MaskRCNNConfig | DETAConfig, *names: str) -> None:
    for name in names:
        if not 0 <= getattr(config, name) <= 1:
            raise ConfigError(f"{name} must be from 0 to 1, got {getattr(config, name)}")
