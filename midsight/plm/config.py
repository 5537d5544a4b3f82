"""What a PerceptionLM is made of, whatever layout it was read from. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from midsight.configs import PEConfig
from midsight.errors import ConfigError


@dataclass(frozen=True)
class PLMConfig:
    """A PE tower, a projector with pooling, and a language model of transformers.

    Source: published configurations of PerceptionLM (1B, 3B, 8B).
    """

    vision: PEConfig | None  # None: a language model alone, which reads text
    text: Mapping[str, Any]  # transformers' configuration of the language model, with its `model_type`
    projector_pooling_ratio: int = 2  # each side of the token grid is divided by it
    image_token_id: int = 128002
    video_token_id: int | None = None  # None: a video's frames stand at image tokens, as in the published layout
    stop_token_ids: tuple[int, ...] = (128001, 128009)
    tie_word_embeddings: bool = True
    max_tiles: int = 36  # of a picture, without the thumbnail; 1 turns tiling off
    max_frames: int = 32  # of a video
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.text.get("model_type"), str):
            raise ConfigError("the language model's configuration has no model_type")
        if not self.stop_token_ids:
            raise ConfigError("a PLM needs at least one stop token")
        if self.vision is None:
            return
        if self.projector_pooling_ratio < 1 or self.vision.grid % self.projector_pooling_ratio:
            raise ConfigError(
                f"projector_pooling_ratio {self.projector_pooling_ratio} does not divide the tower's grid of "
                f"{self.vision.grid} x {self.vision.grid}"
            )
        if self.vision.pool_type != "none" or self.vision.output_dim is not None:
            raise ConfigError("a PLM's tower gives tokens: pool_type must be 'none' and output_dim None")

    @property
    def tile(self) -> int:
        """Side of a tile, pixels: the tower's native square."""
        return self._tower.image_size

    @property
    def tokens_per_tile(self) -> int:
        """Visual tokens of one tile or frame."""
        return (self._tower.grid // self.projector_pooling_ratio) ** 2

    @property
    def _tower(self) -> PEConfig:
        if self.vision is None:
            raise ConfigError("this is a language model alone: it reads text, not pictures or videos")
        return self.vision

    @property
    def context_length(self) -> int:
        """Most tokens of prompt and answer."""
        return int(self.text.get("max_position_embeddings", 2048))
