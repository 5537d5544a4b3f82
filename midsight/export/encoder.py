"""The encoder under a head that is exported: plain float32 modules on the CPU, not the packed ones that run here."""

from dataclasses import dataclass
from pathlib import Path

from midsight.api import load
from midsight.configs import PreprocessConfig
from midsight.errors import CheckpointError, InputError, UnknownModelError
from midsight.tasks.features import DenseEncoder
from midsight.tasks.saved import SavedHead


@dataclass(frozen=True)
class Encoder:
    """A tower, read where a head wants it, and what happens to pixels."""

    dense: DenseEncoder
    preprocess: PreprocessConfig  # with the size of the input


def open_encoder(
    folder: Path, saved: SavedHead, source: str | Path | None, revision: str | None, image_size: int
) -> Encoder:
    """The encoder of a head, up to the last block that the head reads.

    Args:
        folder, saved: of the head.
        source: whatever `midsight.load` takes; None is the encoder that the head names.
        revision: branch, tag or commit of a repository.
        image_size: side of the input, pixels.

    Raises:
        InputError: the head's encoder is not known by the name that it has.
        LayerError: the encoder lacks a block that the head reads.
        ConfigError: the size is no multiple of the patch size.
        CheckpointError, UnknownModelError: as `midsight.load`.
    """
    layers, name = [int(layer) for layer in saved.encoder["layers"]], str(saved.encoder.get("name"))
    settings = {"layer": max(layers), "revision": revision, "image_size": image_size}
    try:
        model = load(source or name, device="cpu", dtype="fp32", **settings)  # type: ignore[arg-type]
    except (CheckpointError, UnknownModelError) as error:
        if source is not None:
            raise
        raise InputError(
            f"{folder}: trained on {name!r}, which cannot be loaded by that name ({error}). Give the encoder as SOURCE."
        ) from error
    dense = DenseEncoder(model.tower, model.preprocess, layers, bool(saved.encoder["norm"]), model.name)
    return Encoder(dense, model.preprocess)
