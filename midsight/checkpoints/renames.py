"""Renaming by a table of pairs that is read in both directions, and the two parts of a published state dict."""

from collections.abc import Iterable, Mapping
from typing import TypeVar

from torch import Tensor

from midsight.errors import CheckpointError

StateDict = dict[str, Tensor]
Table = tuple[tuple[str, str], ...]
Value = TypeVar("Value")
VISUAL = "visual."  # published prefix of the vision tower beside a text tower; text keys have none


def rename(key: str, table: Table) -> str:
    """The key under its other name: the first pair that starts it, then every pair that begins with a dot anywhere."""
    for old, new in table:
        if not old.startswith(".") and key.startswith(old):
            key = new + key.removeprefix(old)
            break
    for old, new in table:
        if old.startswith("."):
            key = key.replace(old, new)
    return key


def reverse(table: Table) -> Table:
    """The same table, read from right to left."""
    return tuple((new, old) for old, new in table)


def rename_all(tensors: Mapping[str, Value], table: Table) -> dict[str, Value]:
    """Every key renamed, the values as they are.

    Raises:
        CheckpointError: two keys get the same name.
    """
    return collect((rename(key, table), value) for key, value in tensors.items())


def collect(pairs: Iterable[tuple[str, Value]]) -> dict[str, Value]:
    """A dictionary of pairs; raises CheckpointError where two have one key."""
    result: dict[str, Value] = {}
    for key, value in pairs:
        if key in result:
            raise CheckpointError(f"two tensors of the checkpoint mean the same parameter, {key!r}; keep one")
        result[key] = value
    return result


def under(prefix: str, tensors: Mapping[str, Value]) -> dict[str, Value]:
    """What lies under a prefix, without it."""
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def vision_tower(state_dict: Mapping[str, Value]) -> dict[str, Value]:
    """The vision tower's entries of a published state dict, named as `VisionTransformer` names them."""
    return under(VISUAL, state_dict) or dict(state_dict)


def text_tower(state_dict: Mapping[str, Value]) -> dict[str, Value]:
    """The text tower's entries, with `logit_scale`; empty where the state dict is a vision tower alone."""
    if not any(key.startswith(VISUAL) for key in state_dict):
        return {}
    return {key: value for key, value in state_dict.items() if not key.startswith(VISUAL)}


def join(vision: Mapping[str, Value], text: Mapping[str, Value]) -> dict[str, Value]:
    """A published state dict of its two parts: `visual.` for the one, nothing for the other.

    A vision tower alone has no prefix, as in the published Lang and Spatial models.
    """
    if not text:
        return dict(vision)
    return {VISUAL + key: value for key, value in vision.items()} | dict(text)
