"""What training changed, and where the rest comes from: an embedded PLM that is a few megabytes of its own.

`config.json` names the tower ("embedded", or a folder) and the package of the language model. `model.safetensors` has
the projector; of each trained matrix the low-rank difference, `KEY.up` (rows, rank) and `KEY.down` (rank, columns);
and other trained tensors whole. Names are those of midsight's own layout. Adapters of rank r are such a difference
exactly; of a part that was trained in full it is the nearest one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from midsight.checkpoints import Pretrained, open_pretrained
from midsight.checkpoints.pretrained import whole_folder
from midsight.checkpoints.reader import read_tensors
from midsight.checkpoints.renames import StateDict, under
from midsight.checkpoints.writer import write_json, write_safetensors
from midsight.configs import PEConfig
from midsight.errors import CheckpointError
from midsight.pe import VisionTransformer
from midsight.pe.headless import headless_weights
from midsight.plm import own, packaged
from midsight.plm.assemble import PACKAGED, with_image_token
from midsight.plm.parts import Parts
from midsight.plm.tokenizer import JsonTokenizer

_UP, _DOWN = ".up", ".down"
_POSITIONS = "positional_embedding"  # each row is trained by itself, so its difference has no low rank


def read(folder: Path, config: Mapping[str, Any]) -> Parts:
    """Configuration, weights and tokenizer: what `write` wrote, put upon the weights that it names.

    Raises:
        CheckpointError: another tower than it was trained with, or a language model that is not known.
        MissingDependencyError: the language model's package is not installed.
    """
    found = own.config_of(config)
    assert found.vision is not None
    if config.get("language") != PACKAGED:
        raise CheckpointError(f"config.json: the language model {config.get('language')!r} is not known ({PACKAGED})")
    tower = open_pretrained(str(config.get("tower")))
    if tower.identity() != config.get("tower_identity"):
        raise CheckpointError(
            f"the tower {config.get('tower')!r} is {tower.identity()[:12]}, but this was trained with "
            f"{str(config.get('tower_identity'))[:12]}: install the midsight that it came with"
        )
    changes = read_tensors(folder)
    text = packaged.smollm2_folder()
    vision = _changed(tower_weights(tower, found.vision), under(own.PARTS[0], changes))
    language = _changed(read_tensors(text), under(own.PARTS[2], changes))
    tokenizer = with_image_token(JsonTokenizer(text / "tokenizer.json"))
    return Parts(found, vision, under(own.PARTS[1], changes), language, tokenizer)


def write(folder: Path, parts: Parts, tower: str, rank: int, metadata: Mapping[str, Any]) -> int:
    """Writes the difference of a PLM to the tower and the packaged language model that it began with.

    Args:
        parts: of the trained PLM; matrices that did not change cost nothing.
        tower: what `open_pretrained` opens, which will be there when it is read.
        rank: of the differences, at most.
        metadata: put into config.json.

    Returns:
        bytes of the weights.
    """
    assert parts.config.vision is not None
    start = open_pretrained(tower)
    kept: StateDict = {own.PARTS[1] + key: value for key, value in parts.vision_projector.items()}
    base = tower_weights(start, parts.config.vision), read_tensors(packaged.smollm2_folder())
    for prefix, before, after in zip(own.PARTS[::2], base, (parts.vision_model, parts.language_model), strict=True):
        for key, value in _difference(before, after, rank):
            kept[prefix + key] = value
    config = replace(parts.config, metadata=dict(metadata))
    with whole_folder(folder) as here:
        write_safetensors(here / "model.safetensors", kept, dtype=torch.float16)
        named = {"format": own.ADAPTED, "tower": tower, "tower_identity": start.identity(), "language": PACKAGED}
        write_json(here / "config.json", {**named, **asdict(config)})
    return (folder / "model.safetensors").stat().st_size


def tower_weights(start: Pretrained, vision: PEConfig) -> StateDict:
    """The start's weights as a tower without a head has them, float32, positions at its size."""
    return headless_weights(dict(start.state_dict), VisionTransformer(vision))


def _changed(base: Mapping[str, Tensor], changes: Mapping[str, Tensor]) -> StateDict:
    """Weights with their differences put in, in the dtype that they had."""
    result = dict(base)
    for key, value in changes.items():
        stem = key.removesuffix(_UP)
        if key.endswith(_DOWN):
            continue
        if stem == key:  # LayerScale may be new
            result[key] = value.to(base[key].dtype) if key in base else value.float()
        elif stem not in base:
            raise CheckpointError(f"the weights of the trained part name {stem!r}, which the model does not have")
        else:
            product = value.float() @ changes[stem + _DOWN].float()
            result[stem] = (base[stem].float() + product).to(base[stem].dtype)
    return result


def _difference(before: Mapping[str, Tensor], after: Mapping[str, Tensor], rank: int) -> Iterator[tuple[str, Tensor]]:
    """Factors of the matrices that changed; other tensors that changed or are new, whole."""
    for key, value in after.items():
        new = value.float()
        if key in before and torch.equal(new, before[key].float()):
            continue
        if key not in before or new.ndim != 2 or key == _POSITIONS:
            yield key, value
            continue
        change = new - before[key].float()
        up, sizes, down = torch.svd_lowrank(change, q=min(2 * rank, *change.shape), niter=6)
        root = sizes[:rank].sqrt()
        yield key + _UP, (up[:, :rank] * root).contiguous()
        yield key + _DOWN, (root[:, None] * down[:, :rank].T).contiguous()
