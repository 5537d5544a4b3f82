"""Both towers made ready for inference on a GPU: few passes over memory, and few launches.

Linear maps and attention compute in the dtype of the pack; the residual stream, the norms and RoPE stay in float32.
LayerScale and the softmax scale are folded into weights. A residual sum and the norm behind it are one kernel, and so
is RoPE of queries and keys (`fused.py`); products and attention are those of cuBLAS and cuDNN. On request small batches
run as CUDA graphs (`graphs.py`).
Letters: B batch, N tokens, W width, H heads, D head dim, L text length.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from midsight.pe import fused
from midsight.pe.attention import fused_attention
from midsight.pe.blocks import AttentionPooling, ResidualAttentionBlock
from midsight.pe.graphs import MAX_FLOP, Graphs
from midsight.pe.packed import PackedPooling, gamma, scaled_projection
from midsight.pe.rope import Rope

if TYPE_CHECKING:
    from midsight.pe.text import TextTransformer
    from midsight.pe.vision import VisionTransformer

Out = TypeVar("Out", Tensor, list[Tensor])
LENGTHS = 8  # texts are cut to a multiple of this, so that few lengths occur


class Map:
    """A linear map in the dtype that it computes in; `scale` (out), such as a LayerScale behind it, is folded in."""

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype, scale: Tensor | None = None) -> None:
        if scale is not None:
            weight, bias = weight * scale[:, None], bias * scale
        self.weight, self.bias = weight.detach().to(dtype).contiguous(), bias.detach().to(dtype).contiguous()

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)

    def gelu(self, x: Tensor) -> Tensor:
        """The map and an exact GELU behind it, in place: one kernel for both is slower than cuBLAS and this pass."""
        return torch.ops.aten.gelu_(self(x))


class GpuBlock:
    """The two branches of a residual attention block; sums and norms are the caller's."""

    def __init__(self, block: ResidualAttentionBlock, dtype: torch.dtype) -> None:
        attn, mlp = block.attn, block.mlp
        self.heads, self.ln_1, self.ln_2 = attn.heads, block.ln_1, block.ln_2
        self.qkv = Map(*scaled_projection(attn), dtype)
        self.out_proj = Map(attn.out_proj.weight, attn.out_proj.bias, dtype, gamma(block.ls_1))
        self.c_fc = Map(mlp.c_fc.weight, mlp.c_fc.bias, dtype)
        self.c_proj = Map(mlp.c_proj.weight, mlp.c_proj.bias, dtype, gamma(block.ls_2))

    @property
    def maps(self) -> tuple[Map, ...]:
        return self.qkv, self.out_proj, self.c_fc, self.c_proj

    def heads_of(self, y: Tensor, rope: Rope | None, causal: bool = False) -> Tensor:
        """Normed tokens (B, N, W) to what the heads gathered (B, N, W)."""
        qkv = self.qkv(y)
        if rope is not None:
            fused.rotate(qkv, rope, self.heads)
        q, k, v = qkv.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each B, H, N, D
        return fused_attention(q, k, v, causal)

    def mlp(self, y: Tensor) -> Tensor:
        """Normed tokens to the second branch."""
        return self.c_proj(self.c_fc.gelu(y))


def run_blocks(
    blocks: list[GpuBlock], x: Tensor, rope: Rope | None, dtype: torch.dtype, layers: list[int], causal: bool = False
) -> dict[int, Tensor]:
    """Float32 tokens (B, N, W) through blocks; the tokens behind each of `layers`."""
    wanted: dict[int, Tensor] = {}
    x, y = fused.add_norm(x.float().contiguous(), None, blocks[0].ln_1, dtype)
    for index in range(max(layers) + 1):
        block = blocks[index]
        x, y = fused.add_norm(x, block.out_proj(block.heads_of(y, rope, causal)), block.ln_2, dtype)
        branch = block.mlp(y)
        if index == max(layers):
            x = x + branch
        else:
            x, y = fused.add_norm(x, branch, blocks[index + 1].ln_1, dtype)
        if index in layers:
            wanted[index] = x
    return wanted


class GpuPooling:
    """Attention pooling with its one query known beforehand, see `PackedPooling`; sums over tokens in `dtype`."""

    def __init__(self, pool: AttentionPooling, dtype: torch.dtype) -> None:
        self.rest, self.dtype = PackedPooling(pool), dtype
        self.score = self.rest.score.to(dtype)  # H, W

    def __call__(self, x: Tensor) -> Tensor:
        """Tokens (B, N, W) to (B, 1, W), float32."""
        x = x.to(self.dtype)
        weights = F.linear(x, self.score).transpose(1, 2).softmax(dim=-1, dtype=torch.float32)  # B, H, N
        return self.rest.pooled((weights.to(self.dtype) @ x).float())


class GpuTower:
    """The parts of a `VisionTransformer` on a GPU; the tower itself runs them."""

    @torch.inference_mode()
    def __init__(self, tower: VisionTransformer, dtype: torch.dtype, graphs: bool = False) -> None:
        self.dtype, self.patch_size = dtype, tower.patch_size
        self.blocks = [GpuBlock(block, dtype) for block in tower.transformer.resblocks]  # type: ignore[arg-type]
        self.conv1 = tower.conv1.weight.detach().flatten(1).to(dtype)
        self.pool = GpuPooling(tower.attn_pool, dtype) if tower.config.pool_type == "attn" else None
        self.graphs = graphs_of(tower, self.blocks, self.conv1, self.pool, tower._rope_tables) if graphs else None
        self._flop = flop_per_row(self.blocks)

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """Copies and pickles of a tower leave the packed parts out: they are another layout of the same weights."""
        return type(None), ()

    def __call__(self, function: Callable[..., Out], x: Tensor, *arguments: Any) -> Out:
        """`function(x, *arguments)`, a pass over images (B, 3, H, W); as a graph where the batch is small."""
        with torch.cuda.device_of(x):
            if self.graphs is None:
                return function(x, *arguments)
            small = x.numel() / (3 * self.patch_size**2) * self._flop <= MAX_FLOP
            return self.graphs(function, x, *arguments, small=small)

    def truncate(self, keep: int) -> None:
        """Drop all blocks behind the first `keep`."""
        del self.blocks[keep:]
        self._flop = flop_per_row(self.blocks)
        if self.graphs is not None:
            self.graphs.clear()

    def patches(self, x: Tensor) -> Tensor:
        """Images (B, 3, H, W) to patch embeddings (B, N, W)."""
        p, rows, columns = self.patch_size, x.shape[2] // self.patch_size, x.shape[3] // self.patch_size
        x = x[:, :, : rows * p, : columns * p].unflatten(2, (rows, p)).unflatten(4, (columns, p))
        x = x.permute(0, 2, 4, 1, 3, 5)  # B, rows, columns, 3, p, p
        pixels = torch.empty(x.shape, dtype=self.dtype, device=x.device).copy_(x)
        return F.linear(pixels.flatten(3).flatten(1, 2), self.conv1)

    def placed(self, x: Tensor, first: Tensor | None, positions: Tensor | None) -> Tensor:
        """Patch embeddings to float32 tokens (B, N, W) with the class token `first` and positions, where there are."""
        skip = int(first is not None)
        tokens = torch.empty(x.shape[0], x.shape[1] + skip, x.shape[2], dtype=torch.float32, device=x.device)
        if first is not None:
            tokens[:, 0] = first if positions is None else first + positions[0]
        if positions is None:
            tokens[:, skip:] = x
        else:
            torch.add(x, positions[skip:], out=tokens[:, skip:])
        return tokens

    def run(self, x: Tensor, rope: Rope | None, layers: list[int]) -> list[Tensor]:
        """Tokens (B, N, W) to those behind each of `layers`, in that order."""
        found = run_blocks(self.blocks, x, rope, self.dtype, layers)
        return [found[index] for index in layers]


class GpuText:
    """The text tower on a GPU: padding is computed, for the host would have to wait to know what it is."""

    @torch.inference_mode()
    def __init__(self, tower: TextTransformer, dtype: torch.dtype, graphs: bool = False) -> None:
        self.tower, self.dtype = tower, dtype
        self.blocks = [GpuBlock(block, dtype) for block in tower.transformer.resblocks]  # type: ignore[arg-type]
        self.graphs = graphs_of(tower, self.blocks) if graphs else None
        self._flop = flop_per_row(self.blocks)

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """As `GpuTower.__reduce__`."""
        return type(None), ()

    def __call__(self, text: Tensor) -> Tensor:
        """Token ids (B, L) to embeddings (B, output_dim)."""
        with torch.cuda.device_of(text):
            if self.graphs is None:
                return self.embeddings(text)
            return self.graphs(self.embeddings, text, small=text.numel() * self._flop <= MAX_FLOP)

    def embeddings(self, text: Tensor) -> Tensor:
        """As `__call__`, launch by launch; the last block's MLP runs only where texts end."""
        tower, (*_, last) = self.tower, self.blocks
        x = tower.token_embedding(text) + tower.positional_embedding[: text.shape[1]]  # B, L, W
        rows, ends = torch.arange(len(text), device=text.device), text.argmax(dim=-1)
        if len(self.blocks) > 1:
            before = len(self.blocks) - 2
            x = run_blocks(self.blocks, x, None, self.dtype, [before], causal=True)[before]
        gathered = last.heads_of(last.ln_1(x).to(self.dtype), None, causal=True)[rows, ends]  # B, W
        x, y = fused.add_norm(x[rows, ends], last.out_proj(gathered), last.ln_2, self.dtype)
        return tower.ln_final(x + last.mlp(y)) @ tower.text_projection


def graphs_of(tower: nn.Module, *parts: Any) -> Graphs:
    """Graphs that keep alive what a pass reads: the tower's parameters of that moment, and its packed parts."""
    reference = weakref.ref(tower)  # the tower owns the graphs, and may go without a word to the garbage collector
    return Graphs(lambda: (reference(), *parts))


def without_padding(text: Tensor) -> Tensor:
    """Token ids (B, L) cut to the longest text, rounded up to `LENGTHS`; exact, for the mask is causal."""
    longest = int(text.argmax(dim=-1).max()) + 1 if len(text) else text.shape[1]
    return text[:, : -(-longest // LENGTHS) * LENGTHS]


def flop_per_row(blocks: list[GpuBlock]) -> int:
    """Operations of all linear maps for one token."""
    return 2 * sum(part.weight.numel() for block in blocks for part in block.maps)
