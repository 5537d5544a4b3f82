"""A tiny pair and tiny data for the tests of training."""

import torch

from midsight import pe

VISION = pe.PEConfig(
    patch_size=8, width=48, layers=2, heads=3, mlp_ratio=2.0, output_dim=16, image_size=32, use_cls_token=True
)
TEXT = pe.PETextConfig(context_length=8, width=32, heads=2, layers=2, output_dim=16, vocab_size=64)


def pair(seed: int = 0, **overrides: object) -> pe.CLIP:
    """A random pair in training mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return pe.CLIP(pe.PEConfig(**(vars(VISION) | overrides)), TEXT).train()


def batch(rows: int, seed: int = 0, size: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (rows, 3, size, size) and token ids (rows, 8)."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(rows, 3, size, size, generator=generator) * 2 - 1
    return images, torch.randint(1, 63, (rows, 8), generator=generator)


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A copy of all gradients."""
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
