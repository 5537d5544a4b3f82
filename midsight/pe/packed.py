"""Both towers made ready for inference: the same arithmetic in fewer and larger steps.

Linear maps are packed (`linear.py`), attention is formed by matrix products (`attention.py`), RoPE is one complex
product, patches are a linear map, the pooling's keys and values are never formed for all tokens, LayerScale and the
softmax scale are folded into weights. Texts are computed without padding: the causal mask keeps whatever follows the
end token from reaching it, so leaving it out is exact. What all texts begin with is computed once: it sees nothing of
what follows, so it is the same in each. That is the first token always, and a template's words where it stands.
Letters: B batch, N tokens, W width, H heads, D head dim, R rows of all texts together.
"""

from __future__ import annotations

from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from midsight import pages, threads
from midsight.pe import packed_trunk
from midsight.pe.attention import attend
from midsight.pe.blocks import AttentionPooling, LayerScale, ResidualAttentionBlock, SelfAttention
from midsight.pe.linear import PackedLinear
from midsight.pe.packed_trunk import PackedTrunk
from midsight.pe.rope import Rope

if TYPE_CHECKING:
    from collections.abc import Sequence

    from midsight.pe.text import TextTransformer
    from midsight.pe.vision import VisionTransformer

TEXT_ROWS = 1024  # tokens of several texts that go through the text tower together
WORTH = 64  # tokens that a common start must save
Groups = list[tuple[int, int]]  # texts, and the rows that each of them has


class PackedBlock:
    """A residual attention block."""

    def __init__(self, block: ResidualAttentionBlock, dtype: torch.dtype) -> None:
        attn = block.attn
        self.heads = attn.heads
        self.ln_1, self.ln_2 = block.ln_1, block.ln_2
        weight, bias = scaled_projection(attn)
        self.qkv = PackedLinear(weight, bias, dtype)
        self.out_proj = PackedLinear(attn.out_proj.weight, attn.out_proj.bias, dtype, gamma(block.ls_1))
        self.c_fc = PackedLinear(block.mlp.c_fc.weight, block.mlp.c_fc.bias, dtype)
        self.c_proj = PackedLinear(block.mlp.c_proj.weight, block.mlp.c_proj.bias, dtype, gamma(block.ls_2))

    def __call__(self, x: Tensor, rope: Rope | None) -> Tensor:
        """Tokens (B, N, W) to the same."""
        qkv = self.qkv(self.ln_1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # 3, B, H, N, D
        q, k = qkv[:2] if rope is None else turned(qkv[:2], rope)
        return self.mlp(self.out_proj.add(attend(q, k, qkv[2]), x))

    def mlp(self, x: Tensor) -> Tensor:
        """The second residual branch."""
        return self.c_proj.add(self.c_fc.gelu(self.ln_2(x)), x)

    def start(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Of the start (P, W) of all texts: what the rest sees of it (2, H, P, D), and its output (P, W)."""
        q, k, v = self.qkv(self.ln_1(x)).unflatten(-1, (3, self.heads, -1)).permute(1, 2, 0, 3)  # each H, P, D
        part = F.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True, scale=1.0)[0]
        return torch.stack((k, v)), self.mlp(self.out_proj.add(part.transpose(0, 1).flatten(1), x))

    def ragged(self, x: Tensor, groups: Groups, seen: Tensor | None) -> Tensor:
        """Rows (R, W) of texts sorted by length, then any that fill up; `seen` is their start, which has no rows."""
        qkv, first = self.qkv(self.ln_1(x)), 0
        out = x.new_empty(x.shape, dtype=qkv.dtype)
        for count, length in groups:
            last = first + count * length
            q, k, v = qkv[first:last].view(count, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            if seen is None:
                part = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0)  # texts, H, length, D
            else:
                k, v = behind(seen, k, v)
                part = F.scaled_dot_product_attention(q, k, v, attn_mask=causal(length, k.shape[2], q.dtype), scale=1.0)
            out[first:last].view(count, length, self.heads, -1).copy_(part.transpose(1, 2))
            first = last
        out[first:] = 0.0  # rows that fill up
        return self.mlp(self.out_proj.add(out, x))


class PackedLastTextBlock(PackedBlock):
    """The text tower's last block, which only has to answer where texts end."""

    def __init__(self, block: ResidualAttentionBlock, dtype: torch.dtype) -> None:
        super().__init__(block, dtype)
        weight, bias = scaled_projection(block.attn)
        width = weight.shape[1]
        self.q = PackedLinear(weight[:width], bias[:width], dtype)
        self.kv = PackedLinear(weight[width:], bias[width:], dtype)
        del self.qkv

    def start(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """As of the other blocks; the output is nobody's."""
        return self.kv(self.ln_1(x)).unflatten(-1, (2, self.heads, -1)).permute(1, 2, 0, 3), x

    def at_ends(self, x: Tensor, ends: Tensor, groups: Groups, seen: Tensor | None) -> Tensor:
        """Rows (R, W) to the rows of the end tokens (texts, W)."""
        texts = len(ends)
        ends = F.pad(ends, (0, rounded(texts) - texts))
        normed = self.ln_1(x)
        q, kv = self.q(normed[ends]).unflatten(-1, (self.heads, 1, -1)), self.kv(normed)  # texts, H, 1, D; R, 2W
        parts, row, text = [], 0, 0
        for count, length in groups:
            k, v = kv[row : row + count * length].view(count, length, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
            k, v = (k, v) if seen is None else behind(seen, k, v)
            part = F.scaled_dot_product_attention(q[text : text + count], k, v, scale=1.0)  # texts, H, 1, D
            parts.append(part.flatten(1))
            row, text = row + count * length, text + count
        out = F.pad(torch.cat(parts), (0, 0, 0, len(ends) - texts))
        return self.mlp(self.out_proj.add(out, x[ends]))[:texts]


class PackedPooling:
    """Attention pooling whose one query is known beforehand.

    The query's product with the key map is a (W, H) matrix, and weighted tokens go through the value map instead of
    all tokens; the key bias adds the same to every score of a head, so the softmax does not see it. In float32
    always.
    """

    def __init__(self, pool: AttentionPooling) -> None:
        self.pool = pool
        weight, bias = scaled_projection(pool.attn)
        width, self.heads = weight.shape[1], pool.attn.heads
        w_q, w_k, self.w_v = weight.split(width)
        query = F.linear(pool.probe[0, 0], w_q, bias[:width]).view(self.heads, 1, -1)  # H, 1, D
        self.score = (query @ w_k.view(self.heads, -1, width)).squeeze(1)  # H, W
        self.b_v = bias[2 * width :]

    def __call__(self, x: Tensor) -> Tensor:
        """Tokens (B, N, W) to (B, 1, W)."""
        weights = F.linear(x, self.score).transpose(1, 2).softmax(dim=-1)  # B, H, N
        return self.pooled(weights @ x)

    def pooled(self, tokens: Tensor) -> Tensor:
        """Each head's weighted tokens (B, H, W) to (B, 1, W)."""
        tokens = tokens.transpose(0, 1)  # H, B, W
        values = tokens @ self.w_v.unflatten(0, (self.heads, -1)).transpose(1, 2)  # H, B, D
        x = self.pool.attn.out_proj(values.transpose(0, 1).flatten(1) + self.b_v)[:, None]  # B, 1, W
        return x + self.pool.mlp(self.pool.layernorm(x))


class PackedTower:
    """The packed parts of a `VisionTransformer`; the tower itself runs them."""

    @torch.inference_mode()
    def __init__(self, tower: VisionTransformer, dtype: torch.dtype) -> None:
        threads.keep_freed_memory()
        self.blocks = [PackedBlock(block, dtype) for block in tower.transformer.resblocks]  # type: ignore[arg-type]
        self.patch_size = tower.patch_size
        self.conv1 = PackedLinear(tower.conv1.weight.flatten(1), None, dtype)
        self.trunk = None
        if tower.config.stem != "patch":
            self.trunk = PackedTrunk(tower.stem) if packed_trunk.available() else tower.stem
        self.pool = PackedPooling(tower.attn_pool) if tower.config.pool_type == "attn" else None

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """Copies and pickles of a tower leave the packed parts out: they are another layout of the same weights."""
        return type(None), ()

    def truncate(self, keep: int) -> None:
        """Drop all blocks behind the first `keep`."""
        del self.blocks[keep:]

    def patches(self, x: Tensor) -> Tensor:
        """Images (B, 3, H, W) to float32 patch embeddings (B, N, W)."""
        if self.trunk is not None:
            return self.conv1(self.trunk(x).permute(0, 2, 3, 1).flatten(1, 2)).float()
        p, rows, columns = self.patch_size, x.shape[2] // self.patch_size, x.shape[3] // self.patch_size
        x = x[:, :, : rows * p, : columns * p].unflatten(2, (rows, p)).unflatten(4, (columns, p))
        return self.conv1(x.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)).float()

    def block(self, index: int, x: Tensor, rope: Rope | None) -> Tensor:
        """Tokens (B, N, W) through one block."""
        return self.blocks[index](x, rope)


class PackedText:
    """The text tower on token rows without padding."""

    @torch.inference_mode()
    def __init__(self, tower: TextTransformer, dtype: torch.dtype) -> None:
        threads.keep_freed_memory()
        *blocks, last = tower.transformer.resblocks
        self.tower = tower
        self.blocks = [PackedBlock(block, dtype) for block in blocks]  # type: ignore[arg-type]
        self.last = PackedLastTextBlock(last, dtype)  # type: ignore[arg-type]
        self.count = len(blocks) + 1
        self._starts: dict[tuple[int, ...], list[Tensor]] = {}  # by their tokens, what each block lets see of them

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """As `PackedTower.__reduce__`."""
        return type(None), ()

    def __call__(self, text: Tensor) -> Tensor:
        """Token ids (B, L) to embeddings (B, output_dim)."""
        lengths, order = (text.argmax(dim=-1) + 1).sort()
        out = self.tower.text_projection.new_empty(len(text), self.tower.text_projection.shape[1])
        for part in parts_of(lengths.tolist()):
            out[order[part]] = self._texts(text[order[part]], lengths[part])
        return out

    def _texts(self, text: Tensor, lengths: Tensor) -> Tensor:
        """Some texts (B, L), sorted by length."""
        skipped = self._common(text, lengths)
        seen: Sequence[Tensor | None] = self._seen(text[0, :skipped].tolist()) if skipped else [None] * self.count
        text, lengths = text[:, skipped:], lengths - skipped
        groups = [(len(list(same)), length) for length, same in groupby(lengths.tolist())]
        kept = torch.arange(text.shape[1], device=text.device) < lengths[:, None]  # B, L
        rows = kept.nonzero()[:, 1] + skipped  # position of each row, texts one after another
        x = self.tower.token_embedding(text[kept]) + self.tower.positional_embedding[rows]
        x = F.pad(x, (0, 0, 0, rounded(len(x)) - len(x)))  # R, W
        for block, known in zip(self.blocks, seen, strict=False):
            x = block.ragged(x, groups, known)
        x = self.last.at_ends(x, lengths.cumsum(0) - 1, groups, seen[-1])  # B, W
        return self.tower.ln_final(x) @ self.tower.text_projection

    def _common(self, text: Tensor, lengths: Tensor) -> int:
        """Tokens of the start that is computed once for all texts (B, L); their ends are never among them.

        A start that is known already costs nothing, another one must save enough.
        """
        same = int((text == text[0]).all(0).cumprod(0).sum())
        found = min(same, int(lengths[0]) - 1)
        first = tuple(text[0, :found].tolist())
        known = max((len(start) for start in self._starts if start == first[: len(start)]), default=min(found, 1))
        return found if (found - known) * (len(text) - 1) >= WORTH else known

    def _seen(self, start: list[int]) -> list[Tensor]:
        """For each block, what texts see of their start (P tokens): (2, H, P, D)."""
        key = tuple(start)
        found = self._starts.get(key)
        if found is None:
            x, found = self.tower.token_embedding.weight[start] + self.tower.positional_embedding[: len(start)], []
            for block in (*self.blocks, self.last):
                seen, x = block.start(x)
                found.append(seen)
            others = {other: kept for other, kept in self._starts.items() if (len(other) > 1) != (len(key) > 1)}
            self._starts = others | {key: found}  # one token, which nearly all texts begin with, and one longer start
        return found


def behind(seen: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values (B, H, N, D) behind those of their start (2, H, P, D): both (B, H, P + N, D)."""
    start = seen.unsqueeze(1).expand(-1, len(k), -1, -1, -1)  # 2, B, H, P, D
    return torch.cat((start[0], k), 2), torch.cat((start[1], v), 2)


@cache
def causal(length: int, total: int, dtype: torch.dtype) -> Tensor:
    """What the last `length` of `total` tokens see of all, (length, total) to add to scores."""
    return torch.full((length, total), -torch.inf, dtype=dtype).triu(1 + total - length)


def rounded(rows: int) -> int:
    """The next number of rows for which linear maps are made: at most a sixteenth more.

    oneDNN makes code for each number of rows and keeps a thousand of them by default. Texts have any number of rows:
    without this, a server's memory grows with each new one.
    """
    step = 1 << max(0, rows.bit_length() - 5)
    return -(-rows // step) * step


def parts_of(lengths: list[int]) -> list[slice]:
    """Cut sorted texts into parts of about `TEXT_ROWS` tokens."""
    parts, first, rows = [], 0, 0
    for index, length in enumerate(lengths):
        if rows and rows + length > TEXT_ROWS:
            parts.append(slice(first, index))
            first, rows = index, 0
        rows += length
    return [*parts, slice(first, len(lengths))] if lengths else []


def scaled_projection(attn: SelfAttention) -> tuple[Tensor, Tensor]:
    """The fused projection with 1 / sqrt(D) folded into its query rows."""
    weight, bias = attn.in_proj_weight.detach().clone(), attn.in_proj_bias.detach().clone()
    pages.release([attn.in_proj_weight])
    width = weight.shape[1]
    scale = (width // attn.heads) ** -0.5
    weight[:width] *= scale
    bias[:width] *= scale
    return weight, bias


def gamma(scale: torch.nn.Module) -> Tensor | None:
    """A LayerScale's factors, None where there is none."""
    return scale.gamma if isinstance(scale, LayerScale) else None


def turned(qk: Tensor, rope: Rope) -> Tensor:
    """Queries and keys (2, B, H, N, D) turned by RoPE: channel pairs as complex numbers, in float32."""
    pairs = torch.view_as_complex(qk.float().unflatten(-1, (-1, 2)))  # 2, B, H, N, D / 2
    out = torch.empty(pairs.shape, dtype=pairs.dtype, device=pairs.device)
    return torch.view_as_real(torch.mul(pairs, rope.cis, out=out)).flatten(-2).to(qk.dtype)
