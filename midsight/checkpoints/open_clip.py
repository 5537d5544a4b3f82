"""open_clip's layout of a PE-Core pair, both ways: timm's vision tower under `visual.trunk.`, text under `text.`.

Source: open_clip's `PE-Core-*` model configurations (`custom_text`, no projection of its own on top of the trunk).
"""

from collections.abc import Mapping

from torch import Tensor

from midsight.checkpoints.renames import StateDict, join, text_tower, under, vision_tower
from midsight.checkpoints.timm import from_timm, to_timm
from midsight.errors import CheckpointError

TRUNK, TEXT = "visual.trunk.", "text."
SHARED = ("logit_scale",)  # entries that belong to neither tower and keep their names
NAMES: dict[str, str] = {  # published name -> open_clip's model
    "PE-Core-T16-384": "PE-Core-T-16-384",
    "PE-Core-S16-384": "PE-Core-S-16-384",
    "PE-Core-B16-224": "PE-Core-B-16",
    "PE-Core-L14-336": "PE-Core-L-14-336",
    "PE-Core-G14-448": "PE-Core-bigG-14-448",
}


def to_open_clip(state_dict: Mapping[str, Tensor]) -> StateDict:
    """A published CLIP pair under open_clip's names; views, as in `to_timm`.

    Raises:
        CheckpointError: a vision tower alone, which open_clip cannot hold, or a packaged stem.
    """
    text = text_tower(state_dict)
    if not text:
        raise CheckpointError(
            "open_clip's layout needs both towers, and these weights are a vision tower alone: use to_timm"
        )
    trunk = {TRUNK + key: value for key, value in to_timm(vision_tower(state_dict)).items()}
    return trunk | {key if key in SHARED else TEXT + key: value for key, value in text.items()}


def from_open_clip(state_dict: Mapping[str, Tensor]) -> StateDict:
    """open_clip's pair under the published names; the exact inverse of `to_open_clip`.

    Raises:
        CheckpointError: entries that are not a PE-Core pair's.
    """
    trunk, text = under(TRUNK, state_dict), under(TEXT, state_dict)
    shared = {key: state_dict[key] for key in SHARED if key in state_dict}
    foreign = [k for k in state_dict if not k.startswith((TRUNK, TEXT)) and k not in SHARED]
    if foreign:
        raise CheckpointError(
            f"{len(foreign)} tensors have no place in an open_clip PE-Core model, the first is {foreign[0]!r}"
        )
    return join(from_timm(trunk), text | shared)


def is_open_clip(keys: Mapping[str, Tensor]) -> bool:
    """True where the names are those of an open_clip model with a timm trunk."""
    return any(key.startswith(TRUNK) for key in keys)
