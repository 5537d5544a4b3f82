"""The vision tower inside a PerceptionLM checkpoint, both ways: transformers' form and the native one.

transformers keeps a timm tower under `model.vision_tower.timm_model.`; the native files keep the published names
under `vision_model.`. The language model and the projector beside it are not read here.
"""

from collections.abc import Mapping

from torch import Tensor

from midsight.checkpoints.renames import StateDict, text_tower, under, vision_tower
from midsight.checkpoints.timm import from_timm, to_timm
from midsight.errors import CheckpointError

TIMM_MODEL = "vision_tower.timm_model."
PREFIX = "model." + TIMM_MODEL  # as transformers saves it; older and inner models lack the first word
NATIVE = "vision_model."


def to_perception_lm(state_dict: Mapping[str, Tensor]) -> StateDict:
    """A published vision tower as transformers' PerceptionLM holds it.

    Raises:
        CheckpointError: there is a text tower, for which PerceptionLM has no place, or a packaged stem.
    """
    return {PREFIX + key: value for key, value in to_timm(_alone(state_dict)).items()}


def to_perception_lm_native(state_dict: Mapping[str, Tensor]) -> StateDict:
    """A published vision tower as the native PerceptionLM files hold it; errors as `to_perception_lm`."""
    return {NATIVE + key: value for key, value in _alone(state_dict).items()}


def from_perception_lm(state_dict: Mapping[str, Tensor]) -> StateDict:
    """The vision tower of a PerceptionLM, transformers' or native, under the published names.

    Raises:
        CheckpointError: there is no vision tower inside.
    """
    for prefix in (PREFIX, TIMM_MODEL):
        if tower := under(prefix, state_dict):
            return from_timm(tower)
    if tower := under(NATIVE, state_dict):
        return tower
    raise CheckpointError(f"no PerceptionLM vision tower inside: no name starts with {PREFIX!r} or {NATIVE!r}")


def is_perception_lm(keys: Mapping[str, Tensor]) -> bool:
    """True where some names are those of a PerceptionLM's vision tower."""
    return any(key.startswith((PREFIX, TIMM_MODEL, NATIVE)) for key in keys)


def _alone(state_dict: Mapping[str, Tensor]) -> StateDict:
    text = text_tower(state_dict)
    if text:
        raise CheckpointError(
            f"a PerceptionLM has no place for PE's text tower, and {len(text)} of these tensors belong to one. "
            "Convert vision_tower(state_dict) alone."
        )
    return vision_tower(state_dict)
