"""What both towers are built of: attention, MLP, LayerScale, DropPath, the residual block and the attention pooling.

Parameter names and shapes are the published ones (`in_proj_weight`, `mlp.c_fc`, `ls_1.gamma`, `attn_pool.probe`, ...).
Letters: B batch, N tokens, W width, H heads, D head dim.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from midsight.pe.attention import fused_attention
from midsight.pe.rope import Rope

NORM_EPS = 1e-5


def normal_parameter(*shape: int, std: float) -> nn.Parameter:
    """A normally distributed parameter; left empty on the meta device, where drawing would load a compiler."""
    parameter = nn.Parameter(torch.empty(shape))
    return parameter if parameter.is_meta else nn.init.normal_(parameter, std=std)  # type: ignore[return-value]


class DropPath(nn.Module):
    """Stochastic depth: in training, a sample's branch is left out with probability `p`, the rest scaled up."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return x
        keep = torch.rand(x.shape[0], *[1] * (x.ndim - 1), device=x.device) >= self.p
        return x * (keep / (1.0 - self.p)).to(x.dtype)


class LayerScale(nn.Module):
    """One learned factor per channel of a residual branch."""

    def __init__(self, width: int, init_value: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), init_value))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class SelfAttention(nn.Module):
    """Multi-head self-attention with one fused projection; 2D RoPE on queries and keys where a table is given."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x: Tensor, rope: Rope | None = None, causal: bool = False) -> Tensor:
        qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias)  # B, N, 3W; rows in q, k, v order
        q, k, v = qkv.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each B, H, N, D
        if rope is not None:
            q, k = rope.rotate(q), rope.rotate(k)
        return self.out_proj(fused_attention(q, k, v, causal, scale=None))  # B, N, W


class MLP(nn.Module):
    """Linear, exact GELU, linear, under the published names."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, hidden)
        self.c_proj = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(F.gelu(self.c_fc(x)))


class ResidualAttentionBlock(nn.Module):
    """Pre-norm block: x + drop(ls_1(attn(ln_1 x))), then x + drop(ls_2(mlp(ln_2 x)))."""

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_ratio: float = 4.0,
        ls_init_value: float | None = None,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.attn = SelfAttention(width, heads)
        self.ls_1 = nn.Identity() if ls_init_value is None else LayerScale(width, ls_init_value)
        self.ls_2 = nn.Identity() if ls_init_value is None else LayerScale(width, ls_init_value)
        self.ln_1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.ln_2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = MLP(width, int(width * mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, rope: Rope | None = None, causal: bool = False) -> Tensor:
        x = x + self.drop_path(self.ls_1(self.attn(self.ln_1(x), rope, causal)))
        return x + self.drop_path(self.ls_2(self.mlp(self.ln_2(x))))


class Transformer(nn.Module):
    """The published container of blocks; running them is the tower's affair, which knows the layer wanted."""

    def __init__(self, blocks: list[ResidualAttentionBlock]) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(blocks)


class AttentionPooling(nn.Module):
    """One learned probe attends to all tokens, then x + MLP(LayerNorm(x)). MLP ratio 4 in every model, also G."""

    def __init__(self, width: int, heads: int, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        self.probe = normal_parameter(1, 1, width, std=width**-0.5)
        self.attn = SelfAttention(width, heads)
        self.layernorm = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = MLP(width, int(width * mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, N, W) to (B, 1, W)."""
        width, heads = x.shape[-1], self.attn.heads
        w_q, w_kv = self.attn.in_proj_weight.split((width, 2 * width))
        b_q, b_kv = self.attn.in_proj_bias.split((width, 2 * width))
        q = F.linear(self.probe.to(x.dtype), w_q, b_q).unflatten(-1, (heads, -1)).transpose(1, 2)  # 1, H, 1, D
        k, v = F.linear(x, w_kv, b_kv).unflatten(-1, (2, heads, -1)).permute(2, 0, 3, 1, 4)  # each B, H, N, D
        x = self.attn.out_proj(fused_attention(q.expand(x.shape[0], -1, -1, -1), k, v, scale=None))  # B, 1, W
        return x + self.mlp(self.layernorm(x))
