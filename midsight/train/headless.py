"""A tower without a head, as PE-Spatial and PE-Lang are: no pooling, no projection, no final norm."""

from dataclasses import replace

from torch import Tensor

from midsight import pe
from midsight.checkpoints import Pretrained
from midsight.configs import PEConfig
from midsight.errors import ConfigError
from midsight.train import state

_POSITIONS = "positional_embedding"


def headless_config(core: PEConfig, image_size: int, layer_scale: float | None, drop_path: float) -> PEConfig:
    """A tower's configuration without its head.

    Args:
        layer_scale: put into all blocks; None leaves the tower's own, or none.

    Raises:
        ConfigError: a size that is no multiple of the patches.
    """
    if image_size % core.patch_size:
        raise ConfigError(f"image_size {image_size}: not a multiple of the start's patch_size {core.patch_size}")
    return replace(
        core, image_size=image_size, pool_type="none", output_dim=None, use_ln_post=False, drop_path=drop_path,
        ls_init_value=core.ls_init_value if layer_scale is None else layer_scale,
    )  # fmt: skip


def headless(found: Pretrained, image_size: int) -> pe.VisionTransformer:
    """A tower with its own blocks and without a head, its positions at another size."""
    tower = pe.VisionTransformer(headless_config(found.vision, image_size, None, 0.0))
    tower.load_state_dict(headless_weights(found.state_dict, tower))
    return tower


def headless_weights(weights: dict[str, Tensor], tower: pe.VisionTransformer) -> dict[str, Tensor]:
    """Weights of a pair or a tower under a headless tower's names, float32, positions at its size.

    Blocks that the tower does not have are left out.
    """
    known = tower.state_dict()
    values = {key.removeprefix("visual."): value.float() for key, value in weights.items()}
    values = {key: value for key, value in values.items() if key in known}
    if _POSITIONS in values:
        grid, first = tower.config.grid, tower.use_cls_token
        values[_POSITIONS] = state.resample_positions(values[_POSITIONS], grid, first)
    return values
