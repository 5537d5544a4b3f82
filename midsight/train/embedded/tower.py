"""The vision tower: it starts exactly as the head of the shared space and is trained on cached trunk maps."""

import logging
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from midsight.configs import PEConfig
from midsight.pe import VisionTransformer
from midsight.train.embedded.features import Cache, expand
from midsight.train.embedded.space import Losses, Pusher, Space, SpaceConfig
from midsight.train.embedded.trunk import Trunk
from midsight.train.embedded.vocabulary import Vocabulary

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TowerConfig:
    """The tower above the stem, and its training."""

    layers: int = 2
    heads: int = 6
    mlp_ratio: float = 4.0
    layer_scale: float = 0.01  # at the start: the blocks hardly change anything
    steps: int = 1500
    batch: int = 96
    lr: float = 3e-4
    pushed: float = 0.35  # share of samples pushed towards a class
    window: int = 5  # side of the map seen in two steps of three; the whole map in the third
    lists: float = 0.5  # weights of the losses: lists of names,
    drawings: float = 1.0  # captions of drawings,
    anchor: float = 5.0  # staying with the head on photographs


def new_tower(config: TowerConfig, space: Space, trunk: Trunk, image_size: int) -> VisionTransformer:
    """A tower whose embedding of a picture is the head of its mean-pooled stem features, to within rounding.

    Blocks begin near the identity (layer scale), without norms before and after them, since a norm on each token would
    throw away how strongly a place answers. The pooling begins as the mean: queries 0, values and output the identity.
    """
    width = space.image.linear.out_features
    tower = VisionTransformer(
        PEConfig(
            patch_size=trunk.stem.stride, width=width, layers=config.layers, heads=config.heads, output_dim=width,
            mlp_ratio=config.mlp_ratio, ls_init_value=config.layer_scale, image_size=image_size,
            use_ln_pre=False, use_ln_post=False, stem="efficientnet_lite2",
        )
    )  # fmt: skip
    tower.stem.load_state_dict(trunk.stem.state_dict())
    tower.stem.requires_grad_(False)
    pool = tower.attn_pool
    with torch.no_grad():
        tower.conv1.weight.copy_(space.image.linear.weight[:, :, None, None])
        tower.positional_embedding.zero_()
        for block in tower.transformer.resblocks:
            for scale in (block.get_parameter("ls_1.gamma"), block.get_parameter("ls_2.gamma")):
                scale.fill_(config.layer_scale)
        pool.attn.in_proj_weight[:width].zero_()
        pool.attn.in_proj_weight[2 * width :].copy_(torch.eye(width))
        pool.attn.in_proj_bias.zero_()
        pool.attn.out_proj.weight.copy_(torch.eye(width))
        pool.attn.out_proj.bias.copy_(space.image.linear.bias)
        pool.layernorm.load_state_dict(space.image.layernorm.state_dict())
        pool.mlp.c_fc.load_state_dict(space.image.c_fc.state_dict())
        pool.mlp.c_proj.load_state_dict(space.image.c_proj.state_dict())
        tower.proj.copy_(space.image.proj)
    return tower


def forward_maps(tower: VisionTransformer, maps: Tensor) -> Tensor:
    """Embeddings (B, output_dim) of stem maps (B, 1280, h, w): the tower without its stem."""
    rows, columns = maps.shape[-2:]
    x = tower.conv1(maps).flatten(2).transpose(1, 2) + tower._positions(rows, columns)
    rope = tower._rope_tables.get(rows, columns, x.device)
    for block in tower.transformer.resblocks:
        x = block(x, rope)
    return tower._pool(x) @ tower.proj


def train_tower(
    config: TowerConfig,
    tower: VisionTransformer,
    trunk: Trunk,
    space: Space,
    vocabulary: Vocabulary,
    texts: Tensor,
    cache: Cache,
    pusher: Pusher,
    seed: int,
) -> None:
    """Train the blocks, the attention of the pooling and its spare units; 0 steps leave all as it starts.

    What knows photographs is kept: the units of the thousand classes do not learn, and on photographs the embedding
    is held near the head's. The rest learns drawings, which the trunk alone names badly.

    Args:
        texts: unit embeddings of the vocabulary's names (names, output_dim).
    """
    if not config.steps:
        tower.eval()
        return
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    keep_classes(tower, len(trunk.bias))
    scale = space.log_scale.exp().clamp(max=100)
    parameters = [p for p in tower.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, config.lr, betas=(0.9, 0.98), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.lr, config.steps, pct_start=0.1)
    weights = replace(SpaceConfig(), lists=config.lists, drawings=config.drawings, drawings_have_captions_only=True)
    losses = Losses(weights, trunk, vocabulary, generator)
    for step in range(config.steps):
        maps, drawing = _batch(config, trunk, cache, pusher, generator)
        answer = trunk.logits(maps.mean((2, 3)))
        with torch.autocast("cpu", torch.bfloat16):
            image = F.normalize(forward_maps(tower, maps).float(), dim=-1)
        parts = losses(image, answer, drawing, lambda rows: texts[rows], scale)
        photographs = drawing < 0
        likeness = (image * space(maps.mean((2, 3)))).sum(-1)[photographs]
        parts["anchor"] = config.anchor * (1 - likeness).mean()
        optimiser.zero_grad()
        sum(parts.values()).backward()  # type: ignore[union-attr]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        if step % 50 == 0 or step == config.steps - 1:
            log.info("tower %d: %s", step, ", ".join(f"{k} {v.item():.3f}" for k, v in parts.items()))
    tower.eval()


def keep_classes(tower: VisionTransformer, classes: int) -> None:
    """Freeze what the head knows of photographs: the map into the tower, and the class units of the pooling's MLP."""
    pool = tower.attn_pool
    for module in (tower.stem, tower.conv1, pool.layernorm):
        module.requires_grad_(False)
    tower.proj.requires_grad_(False)
    first, last = pool.mlp.get_parameter("c_fc.weight"), pool.mlp.get_parameter("c_proj.weight")
    spare = (torch.arange(len(first)) >= classes).float()
    first.register_hook(lambda gradient: gradient * spare[:, None])
    pool.mlp.get_parameter("c_fc.bias").register_hook(lambda gradient: gradient * spare)
    last.register_hook(lambda gradient: gradient * spare)


@torch.no_grad()
def _batch(
    config: TowerConfig, trunk: Trunk, cache: Cache, pusher: Pusher, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Stem maps (B, 1280, h, w), a window or whole, some pushed towards a class, and the drawing each shows."""
    rows = torch.randint(len(cache), (config.batch,), generator=generator).sort().values.numpy()
    maps = expand(trunk.stem, torch.from_numpy(cache.maps[rows]).float())
    drawing = torch.from_numpy(cache.drawings[rows]).long()
    lots = torch.rand(3, generator=generator).tolist()
    if lots[0] < 2 / 3:
        top, left = (int(lot * (maps.shape[-1] - config.window + 1)) for lot in lots[1:])
        maps = maps[..., top : top + config.window, left : left + config.window]
    pushed = torch.rand(config.batch, generator=generator) < config.pushed
    maps = maps.clone()
    maps[pushed] = pusher.maps(maps[pushed], generator)
    drawing[pushed] = -1
    return maps, drawing
