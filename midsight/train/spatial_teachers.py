"""Teachers of locality: what says which tokens belong together.

A teacher is any callable from a batch and the student's grid to mask logits (B, N, M), or to other features whose
cosines say how much two places belong together.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from midsight.configs import PreprocessConfig
from midsight.errors import CheckpointError, ConfigError, MissingDependencyError
from midsight.train.spatial_config import LocalityConfig
from midsight.train.spatial_data import SpatialBatch

LocalityTeacher = Callable[[SpatialBatch, tuple[int, int]], Tensor]

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # of SAM 2.1's pictures, of values from 0 to 1


def open_locality(config: LocalityConfig, preprocess: PreprocessConfig, device: torch.device) -> LocalityTeacher | None:
    """The teacher that a recipe names; None where it names none.

    Raises:
        CheckpointError: SAM's weights cannot be had.
        MissingDependencyError: SAM without transformers.
    """
    if config.teacher == "none" or not config.weight:
        return None
    if config.teacher == "scenes":
        return scene_masks
    return SamTeacher(open_sam(config.name).to(device), config, preprocess)


def scene_masks(batch: SpatialBatch, grid: tuple[int, int]) -> Tensor:
    """The scene engine's exact masks: (B, N, M), how much of each token each object has, the surroundings first.

    In place of logits, which exact masks do not have. Two tokens within one object have cosine 1, of two objects
    0, and tokens on an edge something between.

    Raises:
        ConfigError: the pictures have no objects.
    """
    if batch.shares is None:
        raise ConfigError("locality.teacher = scenes needs shards of the scene engine: midsight data build")
    shares = batch.shares
    if shares.shape[2:] != grid:
        shares = F.adaptive_avg_pool2d(shares, grid)
    return shares.flatten(2).transpose(1, 2)


class SamTeacher:
    """SAM 2.1 asked at each point of a grid, without thresholds and without suppression (PE paper, B.3.1).

    Not published, and chosen here: each point gives SAM's single mask (`multimask_output=False`), and its logits go to
    the student's grid as the decoder gives them, by bilinear interpolation with antialiasing.
    """

    def __init__(self, model: nn.Module, config: LocalityConfig, preprocess: PreprocessConfig) -> None:
        """
        Args:
            model: transformers' `Sam2Model`.
            preprocess: of the student's pixels, which are taken back.
        """
        self.model: Any = model.eval().requires_grad_(False)
        self.config, self.preprocess = config, preprocess

    @torch.no_grad()
    def __call__(self, batch: SpatialBatch, grid: tuple[int, int]) -> Tensor:
        """Mask logits (B, N, points squared)."""
        size, many = self.config.sam_size, self.config.sam_points_at_once
        pixels = F.interpolate(self._pixels(batch.pixels), (size, size), mode="bilinear", antialias=True)
        seen = self.model.get_image_embeddings(pixels)
        points = self._points(pixels.device)  # P, 2
        found = []
        for few in points.split(many):
            asked = few[None, :, None].expand(len(pixels), -1, 1, 2)  # B, p, 1, 2
            labels = torch.ones(asked.shape[:3], dtype=torch.int64, device=pixels.device)
            answer = self.model(image_embeddings=seen, input_points=asked, input_labels=labels, multimask_output=False)
            masks = answer.pred_masks.flatten(1, 2).float()  # B, p, h, w
            found.append(F.interpolate(masks, grid, mode="bilinear", antialias=True))
        return torch.cat(found, dim=1).flatten(2).transpose(1, 2)  # B, N, P

    def _pixels(self, normalised: Tensor) -> Tensor:
        ours = (self.preprocess.mean, self.preprocess.std)
        mean, std, their_mean, their_std = (normalised.new_tensor(v).view(3, 1, 1) for v in (*ours, *_IMAGENET))
        return (normalised * std + mean - their_mean) / their_std

    def _points(self, device: torch.device) -> Tensor:
        """Centres of the cells of the grid, x and y in SAM's pixels, (P, 2), in raster order."""
        at = (torch.arange(self.config.points, device=device) + 0.5) * (self.config.sam_size / self.config.points)
        return torch.stack(torch.meshgrid(at, at, indexing="xy"), dim=-1).flatten(0, 1)


def open_sam(name: str) -> nn.Module:
    """SAM 2.1 by transformers, from a repository or a folder, safetensors only.

    Raises:
        MissingDependencyError: transformers is not installed.
        CheckpointError: its weights cannot be had.
    """
    try:
        from transformers import Sam2Model
    except ImportError as error:
        raise MissingDependencyError("SAM 2.1 comes from transformers: pip install 'midsight[plm]'") from error
    try:
        model: nn.Module = Sam2Model.from_pretrained(name, use_safetensors=True)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"locality.name: {name} is no SAM 2.1 that transformers can open ({reason}); name a repository or a "
            "folder, or set locality.teacher=scenes"
        ) from error
    return model
