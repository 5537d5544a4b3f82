"""Weights of a language model in 8 or 4 bits, on the CPU: torch's own kernels for few rows, bfloat16 for many.

"int8": one scale for each output. "int4": a scale and a zero for 32 weights. Only linear maps inside the layers;
tables, norms, the vision tower and the projector stay. A prompt has many rows: there, weights are laid out in bfloat16
for the one product, because the kernels are made for single tokens.
"""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from midsight import pages
from midsight.errors import ConfigError
from midsight.pe.linear import bf16_available, product

Quantization = Literal["int8", "int4"]
FEW_INT8, FEW_INT4 = 8, 48  # rows up to which the kernels are faster than laying the weights out
GROUP = 32  # weights with one scale in 4 bits
BLOCKS = (64, 32)  # rows that torch packs together in 4 bits: with AVX-512, and without


def check(kind: Quantization, dtype: torch.dtype | None, device: str | torch.device) -> None:
    """Whether a model can be quantised so.

    Raises:
        ConfigError: another kind, another device than the CPU, another dtype than bfloat16.
    """
    if kind not in ("int8", "int4"):
        raise ConfigError(f"quantize must be int8 or int4, got {kind!r}")
    if torch.device(device).type != "cpu" or dtype not in (None, torch.bfloat16):
        raise ConfigError(
            f"quantised weights compute in bfloat16 on the CPU, got {dtype} on {device}: leave both out, or "
            "load without quantize"
        )


def quantize_layers(language_model: nn.Module, kind: Quantization) -> int:
    """Replaces the bfloat16 linear maps inside the layers one by one; how many there were.

    A map whose sizes the kernels do not take stays: in 4 bits, inputs not a multiple of 32 or outputs not of 64.
    """
    head = language_model.get_output_embeddings()  # type: ignore[operator]
    found = [
        (parent, name, child)
        for parent in language_model.modules()
        for name, child in parent.named_children()
        if type(child) is nn.Linear and child is not head
    ]
    make: Callable[[nn.Linear], nn.Module] = Int8Projection if kind == "int8" else Int4Projection
    fitting = [
        (parent, name, child)
        for parent, name, child in found
        if kind == "int8" or child.in_features % GROUP == 0 == child.out_features % BLOCKS[0]
    ]
    for parent, name, child in fitting:
        setattr(parent, name, make(child))
        pages.release([child.weight])
    return len(fitting)


def is_quantized(language_model: nn.Module) -> bool:
    """Whether `quantize` was here."""
    return any(isinstance(module, Int8Projection | Int4Projection) for module in language_model.modules())


class Int8Projection(nn.Module):
    """(..., in) to (..., out), bfloat16; a weight is a whole number of -127 to 127 times its output's scale."""

    values: Tensor  # int8 (out, in)
    scales: Tensor  # bfloat16 (out)

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach().float()
        scales = (weight.abs().amax(1) / 127).clamp(min=1e-12).bfloat16()  # out
        self.register_buffer("values", (weight / scales.float()[:, None]).round().clamp(-127, 127).to(torch.int8))
        self.register_buffer("scales", scales)
        self.bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        """The map."""
        rows = x.reshape(-1, x.shape[-1])
        if len(rows) <= FEW_INT8:
            out: Tensor = torch._weight_int8pack_mm(rows, self.values, self.scales)
        else:
            out = _dense(rows, self.values.to(torch.bfloat16)) * self.scales
        return _finished(out, self.bias, x)


class Int4Projection(nn.Module):
    """(..., in) to (..., out), bfloat16; 16 evenly spaced values between the least and the largest of 32 weights."""

    packed: Tensor  # int32 or uint8, as torch packs it
    scales: Tensor  # bfloat16 (in / 32, out, 2): step, and the value of 8

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.shape = linear.out_features, linear.in_features
        grouped = linear.weight.detach().float().unflatten(1, (-1, GROUP))  # out, groups, 32
        low, high = grouped.amin(-1), grouped.amax(-1)
        steps = ((high - low) / 15).clamp(min=1e-6).bfloat16().float()
        middle = (low + 8 * steps).bfloat16().float()
        values = ((grouped - middle[..., None]) / steps[..., None] + 8).round().clamp(0, 15)
        levels = values.flatten(1).to(torch.int32)  # out, in
        self.register_buffer("packed", torch.ops.aten._convert_weight_to_int4pack_for_cpu(levels, 1))
        self.register_buffer("scales", torch.stack((steps, middle), -1).transpose(0, 1).contiguous().bfloat16())
        fitting = [block for block in BLOCKS if torch.equal(self._levels(block), levels.to(torch.uint8))]
        self.block = fitting[0] if fitting else 0  # 0: packed in a way that is not known here
        self.bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        """The map."""
        rows = x.reshape(-1, x.shape[-1])
        if len(rows) <= FEW_INT4 or not self.block:
            out: Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(rows, self.packed, GROUP, self.scales)
        else:
            out = _dense(rows, self.dense())
        return _finished(out, self.bias, x)

    def dense(self) -> Tensor:
        """The weights (out, in) in bfloat16."""
        levels = self._levels(self.block).unflatten(1, (-1, GROUP))  # out, groups, 32
        steps, middle = self.scales.transpose(0, 1)[..., None].unbind(2)  # each out, groups, 1
        return torch.addcmul(middle, levels.to(torch.bfloat16) - 8, steps).flatten(1)

    def _levels(self, block: int) -> Tensor:
        """The values 0 to 15, uint8 (out, in): a byte holds two rows that lie half a block apart."""
        out, inner = self.shape
        if out % block:
            return torch.empty(0, dtype=torch.uint8)
        pairs = self.packed.view(torch.uint8).view(out // block, inner, block // 2)
        return torch.cat((pairs & 15, pairs >> 4), -1).transpose(1, 2).reshape(out, inner)


def _dense(rows: Tensor, weight: Tensor) -> Tensor:
    return product(rows.contiguous(), weight) if bf16_available() else F.linear(rows, weight)


def _finished(out: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    out = out if bias is None else out + bias
    return out.unflatten(0, x.shape[:-1])
