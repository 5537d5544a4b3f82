"""Small configurations with a published width, so that the number of heads can be told, and random weights for them."""

import torch
from torch import Tensor

from midsight import checkpoints
from midsight.configs import PEConfig, PETextConfig
from tests import peers

CORE = PEConfig(16, 192, 2, 3, 4.0, output_dim=48, image_size=64, use_cls_token=True)
NO_CLASS = PEConfig(14, 192, 2, 3, 8960 / 1536, output_dim=40, image_size=56)  # as G: its MLP ratio, no class token
LANG = PEConfig(
    14, 192, 2, 3, 4.0, None, ls_init_value=0.1, image_size=56, use_cls_token=True, pool_type="none", use_ln_post=False
)
SPATIAL = PEConfig(16, 192, 2, 3, 4.0, None, image_size=64, pool_type="none", use_ln_post=False)
TOWERS = {"core": CORE, "no_class": NO_CLASS, "lang": LANG, "spatial": SPATIAL}
TABLE = "token_embedding.weight"
TEXT = PETextConfig(context_length=12, width=64, heads=1, layers=2, output_dim=48, vocab_size=300)


def weights(vision: PEConfig = CORE, text: PETextConfig | None = None, seed: int = 0) -> dict[str, Tensor]:
    """Random weights under the published names."""
    return peers.random_state(checkpoints.expected_shapes(vision, text), seed)


def pair(seed: int = 0) -> dict[str, Tensor]:
    """Random weights of a CLIP pair."""
    return weights(CORE, TEXT, seed)


def shipped(seed: int = 0, text: PETextConfig = TEXT) -> dict[str, Tensor]:
    """A pair as the embedded model is stored: half precision, the token table in 8-bit floats."""
    state = {key: tensor.half() if tensor.ndim else tensor for key, tensor in weights(CORE, text, seed).items()}
    return state | {TABLE: state[TABLE].to(torch.float8_e4m3fn)}


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    """Equal names, dtypes and bits."""
    return found.keys() == expected.keys() and all(
        found[key].dtype == tensor.dtype and found[key].shape == tensor.shape and bool((found[key] == tensor).all())
        for key, tensor in expected.items()
    )
