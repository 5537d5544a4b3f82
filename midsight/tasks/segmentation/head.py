"""The head: classes for each token, or for each cell of a finer grid."""

from torch import nn

from midsight.tasks.heads import HeadConfig, Kind, build_head


def segmentation_head(
    width: int, classes: int, kind: Kind = "bn_linear", inputs: int = 1, features: int = 0, dropout: float = 0.0
) -> nn.Module:
    """A head from `inputs` maps (B, width, h, w) to logits (B, classes, h', w').

    Args:
        kind: "linear"; "bn_linear", the probe of PE's and DINOv2's tables; "dpt".
        features, dropout: see `HeadConfig`.

    Raises:
        ConfigError: values that cannot be.

    Source: PE paper (NeurIPS revision), ADE20K probe; DINOv2's reference.
    """
    return build_head(HeadConfig(width, classes, kind, inputs, features, dropout))
