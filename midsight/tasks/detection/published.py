"""Published detector checkpoints to this package's modules and back: names, shapes, and what they list twice.

The published state dicts hold, beside the parameters, the rotary tables (once for each use) and, in DETA, the heads
under two names. Nothing of that is dropped unseen: the tables must be those that the configuration gives, the second
names must hold the same values.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from midsight.checkpoints.official import strip_wrappers, unwrap
from midsight.checkpoints.renames import Table, rename
from midsight.errors import CheckpointError
from midsight.tasks.detection.windowed import WindowedBackbone

Shape = tuple[int, ...]
ROPE_TOLERANCE = 0.02  # of cosines; half precision keeps them to 0.004, another reference length changes them by 1
POSITIONS = "positional_embedding"


@dataclass(frozen=True)
class Layout:
    """How a published detector names its parts."""

    tower: str  # published prefix of the backbone
    renames: Table = ()  # own, published
    twice: Table = ()  # prefixes of parameters that are listed once more, and under which prefix


def load(detector: nn.Module, net: WindowedBackbone, layout: Layout, checkpoint: Mapping[str, Any]) -> None:
    """Puts a published checkpoint into a detector, strictly.

    Args:
        detector: on any device; on the meta device it takes the checkpoint's own tensors.
        net: its backbone.
        checkpoint: a state dict, or a file's content with one under "model".

    Raises:
        CheckpointError: a tensor is missing, not known, of another shape or kind, or a rotary table is not the one of
            this configuration; the published name is told.
    """
    tensors = strip_wrappers(unwrap(checkpoint))
    compare(tensors, published_shapes(detector, net, layout))
    _check_ropes(tensors, net, layout)
    _check_twice(tensors, layout)
    own = {}
    for name in detector.state_dict():
        value = tensors[rename(name, layout.renames)]
        own[name] = value.flatten(0, 1) if name.endswith(POSITIONS) else value
    on_meta = any(parameter.is_meta for parameter in detector.parameters())
    detector.load_state_dict(own, assign=on_meta)


def state_dict_of(detector: nn.Module, net: WindowedBackbone, layout: Layout) -> dict[str, Tensor]:
    """A detector's weights under the published names, with everything that a published file lists."""
    published = {
        rename(name, layout.renames): value[None] if name.endswith(POSITIONS) else value
        for name, value in detector.state_dict().items()
    }
    for once, again in layout.twice:
        published |= {again + key.removeprefix(once): v for key, v in published.items() if key.startswith(once)}
    return published | _ropes(net, layout, net.conv1.weight.device)


def published_shapes(detector: nn.Module, net: WindowedBackbone, layout: Layout) -> dict[str, Shape]:
    """Shape of every tensor that a published file of this configuration holds."""
    shapes: dict[str, Shape] = {}
    for name, value in detector.state_dict().items():
        shapes[rename(name, layout.renames)] = (1, *value.shape) if name.endswith(POSITIONS) else tuple(value.shape)
    for once, again in layout.twice:
        shapes |= {again + key.removeprefix(once): s for key, s in shapes.items() if key.startswith(once)}
    head_dim = net.config.width // net.config.heads
    return shapes | {name: (side**2, head_dim) for name, side in _rope_sides(net, layout).items()}


def compare(tensors: Mapping[str, Tensor], shapes: Mapping[str, Shape]) -> None:
    """Names, shapes and kinds of a checkpoint against what is expected.

    Raises:
        CheckpointError: they differ; the first of each kind are named.
    """
    common = [name for name in shapes if name in tensors]
    misshaped = [name for name in common if tuple(tensors[name].shape) != shapes[name]]
    differences = (
        ("missing", [name for name in shapes if name not in tensors]),
        ("not known", [name for name in tensors if name not in shapes]),
        ("of another shape", [f"{n} {tuple(tensors[n].shape)} for {shapes[n]}" for n in misshaped]),
        ("not of a floating dtype", [n for n in common if not tensors[n].is_floating_point()]),
    )
    if any(found for _, found in differences):
        parts = [
            f"{len(found)} {what} ({', '.join(found[:3])}{', ...' if len(found) > 3 else ''})"
            for what, found in differences
            if found
        ]
        raise CheckpointError(
            f"not this detector's checkpoint, which has {len(shapes)} tensors: {'; '.join(parts)}. "
            "Compare the configuration with the file's, or copy the file again"
        )


def _rope_sides(net: WindowedBackbone, layout: Layout) -> dict[str, int]:
    """Published name of every rotary table, and the side of the square that it is for."""
    if not net.config.use_rope2d:
        return {}
    blocks = {
        f"transformer.resblocks.{i}.attn.rope": net.grid if i in net.global_blocks else net.window_size
        for i in range(net.layers)
    }
    owners = {"rope_win": net.window_size, "rope_glb": net.grid} | blocks
    return {f"{layout.tower}{owner}.freqs_{f}": side for owner, side in owners.items() for f in ("cos", "sin")}


def _ropes(net: WindowedBackbone, layout: Layout, device: torch.device) -> dict[str, Tensor]:
    """The rotary tables by published name, (tokens, head_dim): one value for both channels of a pair."""
    angles = {side: net.rope(side, device).angles for side in set(_rope_sides(net, layout).values())}
    tables = {side: (a.repeat_interleave(2, 1).cos(), a.repeat_interleave(2, 1).sin()) for side, a in angles.items()}
    return {name: tables[side][name.endswith("sin")] for name, side in _rope_sides(net, layout).items()}


def _check_ropes(tensors: Mapping[str, Tensor], net: WindowedBackbone, layout: Layout) -> None:
    device = torch.device("cpu")
    for name, expected in _ropes(net, layout, device).items():
        found = tensors[name]
        if found.is_meta:
            continue
        difference = (found.to(device, torch.float32) - expected).abs().max()
        if not difference <= ROPE_TOLERANCE:
            raise CheckpointError(
                f"{name} is a rotary table of another kind (it differs by {difference:.2f}): the file was trained with "
                f"another reference length than rope_grid={net.rope_grid:g}. Give the configuration that it belongs to"
            )


def _check_twice(tensors: Mapping[str, Tensor], layout: Layout) -> None:
    for once, again in layout.twice:
        for name in (key for key in tensors if key.startswith(once)):
            other = again + name.removeprefix(once)
            one, two = tensors[name], tensors[other]
            if not one.is_meta and not two.is_meta and not torch.equal(one, two):
                raise CheckpointError(f"{name} and {other} are one parameter, but the file has two different tensors")
