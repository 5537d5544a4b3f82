"""The module that is trained: both towers behind one forward pass, and what masked views need."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import torch
from torch import Tensor, nn

from midsight import pe
from midsight.pe.blocks import normal_parameter
from midsight.train.masking import hide_patches

_MASK_TOKEN_STD = 0.02


class Pair(nn.Module):
    """A `pe.CLIP`, trained or with a locked tower, and, for mask regularisation, a vector in place of hidden patches.

    All passes go through `forward`, so that the whole can be sharded. The model's own names stay as published; a
    checkpoint of a run puts `model.` before them.
    """

    def __init__(self, model: pe.CLIP, mask: bool) -> None:
        super().__init__()
        self.model = model
        named = [(name.startswith("visual."), p) for name, p in model.named_parameters() if name != "logit_scale"]
        self._image, self._text = (any(p.requires_grad for own, p in named if own is side) for side in (True, False))
        if mask:
            self.mask_token = normal_parameter(model.visual.width, std=_MASK_TOKEN_STD)

    def train(self, mode: bool = True) -> Self:
        """As usual, but a locked vision tower drops no branches."""
        super().train(mode)
        self.model.visual.train(mode and self._image)
        return self

    def forward(
        self, media: Tensor | None, texts: Tensor | None, hidden: Tensor | None = None
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Features of images or clips, features of texts, and tokens.

        Args:
            media: images (B, 3, S, S) or clips (B, T, 3, S, S), normalised pixels; None leaves them out.
            texts: token ids (B, L); None leaves them out.
            hidden: bool (B, N), patches that are masked: then only tokens are computed.

        Returns:
            (B, D) and (B, D), not normalised, and all tokens behind the final norm (B, N, W), class token first if
            any, where `media` are images of a run with masked views; None for what was not asked for.
        """
        if hidden is not None:
            assert media is not None
            with hide_patches(self.model.visual, hidden, self.mask_token):
                return None, None, self.model.visual.forward_features(media, norm=True)
        with _grad(self._text):
            encoded = None if texts is None else self.model.encode_text(texts)
        if media is None:
            return None, encoded, None
        with _grad(self._image), _tokens(self.model.visual) as kept:
            images = self.model.encode_video(media) if media.ndim == 5 else self.model.encode_image(media)
        return images, encoded, kept[0] if hasattr(self, "mask_token") and media.ndim == 4 else None


def _grad(wanted: bool) -> torch.set_grad_enabled:
    """No graph for a tower without trained parameters; else as it is."""
    return torch.set_grad_enabled(wanted and torch.is_grad_enabled())


@contextmanager
def _tokens(tower: pe.VisionTransformer) -> Iterator[list[Tensor]]:
    """Tokens behind the final norm of the passes within the block."""
    kept: list[Tensor] = []
    handle = tower.ln_post.register_forward_hook(lambda _, __, out: kept.append(out))
    try:
        yield kept
    finally:
        handle.remove()


def compile_blocks(model: pe.CLIP) -> None:
    """`torch.compile` of each block, in place: names stay, and what surrounds the blocks stays free to change."""
    for block in (*model.visual.transformer.resblocks, *model.transformer.resblocks):
        block.compile()


def autocast(device: torch.device, bf16: bool) -> torch.autocast:
    """The context of all forward passes: bfloat16 where it is safe, or nothing."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16)
