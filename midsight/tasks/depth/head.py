"""The head: shares over bins of depth, and their mean in metres."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from midsight.errors import ConfigError
from midsight.tasks.heads import HeadConfig, build_head

_FLOOR = 0.1  # added to each bin, so that none has no share (DINOv2's reference)


@dataclass(frozen=True)
class DepthRange:
    """The bins: evenly spaced depths, ends included. The defaults are those of DINOv2's reference for NYU."""

    bins: int = 256
    nearest: float = 0.001  # metres
    farthest: float = 10.0

    def __post_init__(self) -> None:
        if self.bins < 2 or not 0 < self.nearest < self.farthest:
            raise ConfigError(f"depth needs at least 2 bins and 0 < nearest < farthest, got {self}")


class DepthHead(nn.Module):
    """Maps to metres.

    Each cell's outputs, cut at zero and normalised to a sum of one, are the weights of the bins' depths.

    Source: DINOv2's reference for NYU (256 uniform bins, linear normalisation).
    """

    centres: Tensor

    def __init__(self, config: HeadConfig, depths: DepthRange | None = None) -> None:
        """
        Raises:
            ConfigError: `config.outputs` is not the number of bins.
        """
        super().__init__()
        self.config, self.depths = config, depths or DepthRange()
        if config.outputs != self.depths.bins:
            raise ConfigError(f"the head has {config.outputs} outputs, but there are {self.depths.bins} bins of depth")
        self.head = build_head(config)
        centres = torch.linspace(self.depths.nearest, self.depths.farthest, self.depths.bins)
        self.register_buffer("centres", centres, persistent=False)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """`inputs` maps (B, width, h, w) to depth float (B, 1, h', w'), metres."""
        weights = F.relu(self.head(maps)) + _FLOOR  # B, bins, h', w'
        mean = torch.einsum("bnhw,n->bhw", weights, self.centres.to(weights)) / weights.sum(dim=1)
        return mean[:, None]
