"""The text tower: a causal transformer, pooled at the end-of-text token (published `pe.py`)."""

from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from midsight.configs import PETextConfig
from midsight.errors import ShapeError
from midsight.pe import gpu, packed
from midsight.pe.blocks import NORM_EPS, ResidualAttentionBlock, Transformer, normal_parameter


class TextTransformer(nn.Module):
    """Token ids to embeddings. The end of text is the largest id of a row, as in CLIP's vocabulary."""

    def __init__(self, config: PETextConfig) -> None:
        super().__init__()
        self.text_config = config
        self.context_length, self.vocab_size = config.context_length, config.vocab_size
        width = config.width
        table = normal_parameter(config.vocab_size, width, std=0.02)
        self.token_embedding = nn.Embedding(config.vocab_size, width, _weight=table.detach())
        self.positional_embedding = normal_parameter(config.context_length, width, std=0.01)
        self.transformer = Transformer(
            [ResidualAttentionBlock(width, config.heads, config.mlp_ratio) for _ in range(config.layers)]
        )
        self.ln_final = nn.LayerNorm(width, eps=NORM_EPS)
        self.text_projection = normal_parameter(width, config.output_dim, std=width**-0.5)
        self._checkpointing = False
        self._packed_text: packed.PackedText | gpu.GpuText | None = None

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block in the backward pass instead of keeping its activations."""
        self._checkpointing = enable

    def forward_text(self, text: Tensor) -> Tensor:
        """Embeddings (B, output_dim), not normalised, of token ids (B, L), L at most the context length.

        Raises:
            ShapeError: `text` is not (B, L) of an integer dtype, or longer than the context.
        """
        self._check(text)
        if self._packed_text is not None and not torch.is_grad_enabled():
            return self._packed_text(text)
        x = self.token_embedding(text) + self.positional_embedding[: text.shape[1]]  # B, L, W
        for block in self.transformer.resblocks:
            if self._checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, None, True, use_reentrant=False)
            else:
                x = block(x, causal=True)
        x = self.ln_final(x)
        end = x[torch.arange(x.shape[0], device=x.device), text.argmax(dim=-1)]  # B, W
        return end @ self.text_projection

    def forward(self, text: Tensor) -> Tensor:
        """As `forward_text`."""
        return self.forward_text(text)

    def pack(self, dtype: torch.dtype = torch.float32, graphs: bool = False) -> Self:
        """Prepare inference where the weights are; see `VisionTransformer.pack`.

        On a CPU no padding is computed; on CUDA, where the host cannot know it without waiting, cut it off beforehand
        (`gpu.without_padding`).
        """
        on_gpu, tower = self.token_embedding.weight.is_cuda, self.eval()
        self._packed_text = gpu.GpuText(tower, dtype, graphs) if on_gpu else packed.PackedText(tower, dtype)
        return self

    def train(self, mode: bool = True) -> Self:
        if mode:
            self._packed_text = None
        return super().train(mode)

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        self._packed_text = None
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def _load_from_state_dict(self, *args: Any) -> None:
        self._packed_text = None
        super()._load_from_state_dict(*args)

    def _check(self, text: Tensor) -> None:
        if text.ndim != 2 or text.is_floating_point():
            raise ShapeError(f"text must be token ids (B, L) of an integer dtype, got {text.dtype} {tuple(text.shape)}")
        if not 0 < text.shape[1] <= self.context_length:
            raise ShapeError(f"text of {text.shape[1]} tokens; the context length is {self.context_length}")
