"""The vision tower before its training: it already answers in words, by what its trunk knows.

Attention pooling that attends evenly is a linear map of the mean-pooled trunk features, then x + MLP(norm(x)), then a
projection. A thousand of the MLP's hidden units are the classes, each adding where its name lies, so that a picture's
embedding is the sum of the places of its likely classes. The blocks before it start as the identity. Nothing is learnt
from pictures yet but gains, so it holds for photographs unlike the few at hand.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from midsight.checkpoints.official import POOL_MLP_RATIO
from midsight.configs import PEConfig
from midsight.errors import ConfigError
from midsight.pe import VisionTransformer
from midsight.train.embedded.trunk import Trunk
from midsight.train.embedded.words import Words

_RESIDUAL = 0.05  # spread of the linear part, small beside the places that are added to it
_BEST, _TAIL, _TOP = 8.0, 20, 14.0  # answer of the likeliest class; the class that hardly answers; gain between them


@dataclass(frozen=True)
class TowerConfig:
    """The tower above the stem."""

    width: int = 384
    layers: int = 2
    heads: int = 6
    mlp_ratio: float = 4.0
    layer_scale: float = 1e-5  # at the start: the blocks change nothing


def new_tower(config: TowerConfig, words: Words, trunk: Trunk, pooled: Tensor, image_size: int) -> VisionTransformer:
    """A tower that starts as described above.

    No norms stand before and after the blocks, since a norm on each token would throw away how strongly a place
    answers.

    Args:
        pooled: mean-pooled trunk features of some training pictures (N, 1280), for the gains.

    Raises:
        ConfigError: a width that gives the pooling fewer hidden units than there are classes, that is less than the
            space's, or more than there are classes.
    """
    output, classes = words.classes.shape[1], len(words.classes)
    least = max(output, -(-classes // POOL_MLP_RATIO))
    if not least <= config.width <= classes:
        raise ConfigError(
            f"tower.width {config.width}: at least a quarter of the {classes} classes and the {output} dimensions of "
            f"the space are needed, and at most the classes; take {least} to {classes}"
        )
    tower = VisionTransformer(config_of(config, words, trunk, image_size))
    tower.stem.load_state_dict(trunk.stem.state_dict())
    _start_pooling(tower, words, trunk, pooled)
    return tower


def config_of(config: TowerConfig, words: Words, trunk: Trunk, image_size: int) -> PEConfig:
    """The tower's configuration."""
    return PEConfig(
        patch_size=trunk.stem.stride, width=config.width, layers=config.layers, heads=config.heads,
        output_dim=words.classes.shape[1], mlp_ratio=config.mlp_ratio, ls_init_value=config.layer_scale,
        image_size=image_size, use_ln_pre=False, use_ln_post=False, stem="efficientnet_lite2",
    )  # fmt: skip


@torch.no_grad()
def _start_pooling(tower: VisionTransformer, words: Words, trunk: Trunk, pooled: Tensor) -> None:
    """Linear map along the directions in which the logits differ most; hidden unit c answers as class c stands out."""
    pool, width, classes = tower.attn_pool, tower.width, len(trunk.bias)
    weight, bias, mean = trunk.weight - trunk.weight.mean(0), trunk.bias - trunk.bias.mean(), pooled.mean(0)
    varied = (pooled - mean) @ weight.T
    axes = torch.linalg.eigh(varied.T @ varied / len(varied)).eigenvectors[:, -width:]  # classes, width
    down, spread = axes.T @ weight, (varied @ axes).std(1).mean()
    tower.positional_embedding.zero_()
    tower.conv1.weight.copy_((down * (_RESIDUAL / spread))[:, :, None, None])
    pool.attn.in_proj_weight[:width].zero_()  # queries 0: even attention
    pool.attn.in_proj_weight[2 * width :].copy_(torch.eye(width))
    pool.attn.in_proj_bias.zero_()
    pool.attn.out_proj.weight.copy_(torch.eye(width))
    pool.attn.out_proj.bias.copy_(-mean @ down.T * (_RESIDUAL / spread))
    constant = (bias + weight @ mean) / spread
    answers = F.layer_norm((pooled - mean) @ down.T, (width,)) @ axes.T + constant
    best = answers.topk(_TAIL).values.median(0).values
    gain = _TOP / (best[0] - best[-1])
    first, last = pool.mlp.c_fc, pool.mlp.c_proj
    first.weight[:classes] = gain * axes
    first.bias[:classes] = gain * constant + _BEST - gain * best[0]
    last.weight.zero_()
    last.bias.zero_()
    last.weight[: words.classes.shape[1], :classes] = words.classes.T
    tower.proj.copy_(torch.eye(width)[:, : words.classes.shape[1]])
