"""The pair of towers (published `pe.py`): the text tower's keys stand bare, the vision tower's under `visual.`."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from midsight.checkpoints import load_pair
from midsight.configs import MODELS, PEConfig, PETextConfig, find_model
from midsight.errors import ConfigError, ShapeError
from midsight.pe.text import TextTransformer
from midsight.pe.vision import VisionTransformer, override


class CLIP(TextTransformer):
    """Image, video and text embeddings in one space."""

    def __init__(self, vision_config: PEConfig, text_config: PETextConfig) -> None:
        if vision_config.output_dim != text_config.output_dim:
            raise ConfigError(
                f"the towers must end in one space, but the vision tower's output_dim is {vision_config.output_dim} "
                f"and the text tower's {text_config.output_dim}"
            )
        super().__init__(text_config)
        self.visual = VisionTransformer(vision_config)
        self.image_size = self.visual.image_size
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    @classmethod
    def available_configs(cls) -> list[str]:
        """Names of the published pairs."""
        return [name for name, model in MODELS.items() if model.text is not None]

    @classmethod
    def from_config(
        cls,
        name: str | tuple[PEConfig, PETextConfig],
        pretrained: bool = False,
        checkpoint_path: str | Path | None = None,
        **overrides: Any,
    ) -> Self:
        """A pair by published name, or of configurations of one's own.

        Args:
            name: a published PE-Core name, or the two configurations.
            pretrained: load weights, from `checkpoint_path` or else from the model's Hugging Face repository.
            checkpoint_path: file, folder, repository id, or `hf://repository:file`.
            **overrides: fields of the vision tower's `PEConfig` to replace; `context_length` is the text tower's.

        Raises:
            UnknownModelError: no such name.
            ConfigError: the name of a model without a text tower, or an override that is no field.
            CheckpointError: weights that are missing, cut, foreign, or of another configuration.
        """
        vision, text = pair_of(name) if isinstance(name, str) else name
        text = replace(text, context_length=overrides.pop("context_length", text.context_length))
        vision = override(vision, overrides)
        if not pretrained:
            return cls(vision, text)
        with torch.device("meta"):
            model = cls(vision, text)
        model.load_state_dict(
            load_pair(checkpoint_path if checkpoint_path is not None else name, vision, text), assign=True
        )
        return model.eval()

    def encode_image(self, image: Tensor, normalize: bool = False) -> Tensor:
        """Images, float (B, 3, H, W), normalised pixels, to features (B, D); of length 1 if `normalize`."""
        x = self.visual(image)
        return F.normalize(x, dim=-1) if normalize else x

    def encode_video(self, video: Tensor, normalize: bool = False) -> Tensor:
        """Clips, float (B, T, 3, H, W), to features (B, D): the mean of the frames' features.

        With `normalize`, each frame is normalised before the mean, and the mean is left as it is (published).

        Raises:
            ShapeError: `video` is not (B, T, 3, H, W).
        """
        if video.ndim != 5:
            raise ShapeError(f"video must be (B, T, 3, H, W), got {tuple(video.shape)}")
        frames = self.encode_image(video.flatten(0, 1), normalize)  # B * T, D
        return frames.unflatten(0, video.shape[:2]).mean(dim=1)

    def encode_text(self, text: Tensor, normalize: bool = False) -> Tensor:
        """Token ids (B, L) to features (B, D); of length 1 if `normalize`."""
        x = self.forward_text(text)
        return F.normalize(x, dim=-1) if normalize else x

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        """Normalised image features (B, D), normalised text features (B, D), and the logit scale, exponentiated."""
        image_features = self.encode_image(image, normalize=True)
        text_features = self.encode_text(text, normalize=True)
        return image_features, text_features, self.logit_scale.exp()

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the blocks of both towers in the backward pass."""
        super().set_grad_checkpointing(enable)
        self.visual.set_grad_checkpointing(enable)

    def pack(self, dtype: torch.dtype = torch.float32, graphs: bool = False) -> Self:
        """Prepare both towers for inference where they are; see `VisionTransformer.pack`."""
        self.visual.pack(dtype, graphs)
        return super().pack(dtype, graphs)


def pair_of(name: str) -> tuple[PEConfig, PETextConfig]:
    """Both configurations of a published pair."""
    model = find_model(name)
    if model.text is None:
        pairs = ", ".join(CLIP.available_configs())
        raise ConfigError(
            f"{name} has no text tower: use pe.VisionTransformer.from_config({name!r}), or one of {pairs}"
        )
    return model.vision, model.text
