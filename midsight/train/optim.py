"""Optimiser, learning rate and clipping of core training.

Published: LAMB, betas (0.9, 0.95), weight decay 0.05, warm-up of 2,000 steps, "full annealing". Not published, and
chosen here: the annealing is a cosine to zero over all steps; weight decay leaves out biases, norms, LayerScale, the
class token, position tables, the pooling probe, the mask token and the logit scale (all that is no matrix of a linear
map, a convolution or the token table); the gradient is clipped to length 1 over all parameters (timm's default).

Sources: PE paper, tables 18 to 20; timm's LAMB.
"""

import math
from collections.abc import Iterable
from inspect import signature
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from midsight.errors import MissingDependencyError
from midsight.train.config import OptimConfig
from midsight.train.distributed import local

_NO_DECAY = ("positional_embedding", "class_embedding", "probe", "mask_token", "logit_scale")


def decays(name: str, parameter: Tensor) -> bool:
    """Whether weight decay applies to a parameter."""
    return parameter.ndim > 1 and not name.endswith(_NO_DECAY)


def depth_of(name: str, vision_layers: int, text_layers: int) -> int:
    """How many blocks lie behind a parameter in its tower: 0 at the output, layers + 1 at the input."""
    layers = vision_layers if "visual." in name else text_layers
    if ".resblocks." in name:
        return layers - int(name.split(".resblocks.")[1].split(".")[0])
    at_input = ("conv1", "stem", "class_embedding", "positional_embedding", "ln_pre", "token_embedding", "mask_token")
    return layers + 1 if any(part.startswith(at_input) for part in name.split(".")) else 0


def build_optimizer(
    parameters: Iterable[tuple[str, nn.Parameter]], config: OptimConfig, vision_layers: int, text_layers: int
) -> torch.optim.Optimizer:
    """The optimiser, with one group for each combination of decay and depth; the logit scale has its own group.

    Args:
        parameters: names and parameters, published names under any prefix; frozen ones are left out.
        vision_layers, text_layers: blocks of the towers, for the layer-wise decay of the learning rate.

    Raises:
        MissingDependencyError: LAMB without timm.
    """
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for name, parameter in parameters:
        if not parameter.requires_grad:
            continue
        factor = config.layer_decay ** depth_of(name, vision_layers, text_layers)
        decay = _weight_decay(config, name) if decays(name, parameter) else 0.0
        key = (factor, decay, name.endswith("logit_scale"))
        group = groups.setdefault(key, {"params": [], "weight_decay": decay, "factor": factor})
        group["params"].append(parameter)
    groups_in_order = [groups[key] for key in sorted(groups)]
    together = all(_on_gpu(parameter) for group in groups_in_order for parameter in group["params"])
    if config.name == "adamw":
        return torch.optim.AdamW(groups_in_order, lr=config.lr, betas=config.betas, eps=config.eps, foreach=together)
    try:
        from timm.optim.lamb import Lamb
    except ImportError as error:
        raise MissingDependencyError("LAMB comes from timm: pip install 'midsight[train]'") from error
    # Clipping is done by clip_gradients, which also knows sharded gradients.
    # Older versions know no `foreach` and do without it.
    kept = {"foreach": together} if "foreach" in signature(Lamb).parameters else {}
    return Lamb(groups_in_order, lr=config.lr, betas=config.betas, eps=config.eps, max_grad_norm=None, **kept)


def _on_gpu(parameter: Tensor) -> bool:
    """Whether it lies whole on a GPU, where one launch for many tensors saves more than its copies cost."""
    return parameter.is_cuda and not isinstance(parameter, DTensor)


def _weight_decay(config: OptimConfig, name: str) -> float:
    in_text = "visual." not in name
    return config.text_weight_decay if in_text and config.text_weight_decay is not None else config.weight_decay


def learning_rate(config: OptimConfig, step: int, steps: int) -> float:
    """The learning rate of a step (0-based) of `steps`: a straight rise, then a cosine that ends at zero.

    The warm-up is cut to a tenth of a run that is shorter than ten warm-ups.
    """
    warmup = min(config.warmup_steps, max(1, steps // 10)) if config.warmup_steps else 0
    if step < warmup:
        return config.lr * (step + 1) / warmup
    return config.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup + 1) / max(1, steps - warmup)))


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Gives every group its share."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["factor"]


def prime(optimizer: torch.optim.Optimizer) -> None:
    """Makes the state that the optimiser would make at its first step, so that a checkpoint can be read into it."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            state = optimizer.state[parameter]
            if state:
                continue
            if isinstance(optimizer, torch.optim.AdamW):
                state["step"] = torch.tensor(0.0)
            elif "step" not in group:
                group["step"] = torch.tensor(0.0, dtype=torch.float32)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)


@torch.no_grad()
def clip_gradients(parameters: Iterable[Tensor], longest: float | None) -> float:
    """Shortens the gradient over all parameters to `longest`, in place; sharded ones count whole.

    Returns:
        The length before.
    """
    grads = [p.grad for p in parameters if p.grad is not None]
    if not grads:
        return 0.0
    squares = [norm.square() for norm in torch._foreach_norm([local(grad).float() for grad in grads])]
    shared = [square for square, grad in zip(squares, grads, strict=True) if isinstance(grad, DTensor)]
    own = [square for square, grad in zip(squares, grads, strict=True) if not isinstance(grad, DTensor)]
    both = torch.stack([torch.stack(group).sum() if group else squares[0].new_zeros(()) for group in (shared, own)])
    if shared:
        dist.all_reduce(both[:1])
    length = float(both.sum().sqrt())
    if longest is not None and length > longest:
        torch._foreach_mul_([local(grad) for grad in grads], longest / length)
    return length
