"""From a model to a folder of checked files."""

import os
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from midsight.api import load
from midsight.checkpoints.pretrained import whole_folder
from midsight.checkpoints.writer import write_json
from midsight.errors import ExportError, InputError, MidsightError, OutputError
from midsight.export.agree import Agreement, Latency, check, latency
from midsight.export.card import Card, gist
from midsight.export.config import SUFFIXES, ExportConfig, Format
from midsight.export.heads import HeadSize, head_part
from midsight.export.runner import Runner
from midsight.export.samples import inputs_for, most_first
from midsight.export.towers import Part, parts_of
from midsight.export.write import write
from midsight.files import content_hash

REPORT = "report.json"
PACKAGES = ("midsight", "torch", "torchvision", "onnx", "onnxruntime", "openvino")


@dataclass(frozen=True)
class Exported:
    """One file, what it says about itself, and how it did."""

    path: Path
    card: Card
    agreements: list[Agreement] = field(repr=False)
    latency: Latency


def export(
    source: str | Path | None,
    out: str | Path,
    to: Format,
    *,
    head: str | Path | None = None,
    checkpoint: str | Path | None = None,
    layer: int | None = None,
    as_maps: bool = False,
    dynamic: bool = False,
    image_size: int | None = None,
    revision: str | None = None,
    config: ExportConfig | None = None,
) -> list[Exported]:
    """Writes a model's towers, or an encoder with its head, as files for other programs, each checked over real inputs.

    The folder then holds `image` and, for a pair of towers, `text` with the format's ending, and `report.json`; with a
    head `segmentation`, `depth` or `detection` in their place. It appears whole or not at all.

    Args:
        source: whatever `midsight.load` takes; None and "embedded" are the model that comes with the package. With a
            head, the encoder that it was trained on; None is the one that it names.
        out: a folder that does not exist yet, or is empty.
        to: "onnx", "openvino" or "pt2" (a saved program of torch.export).
        head: name of a head that is shipped or of a published detector, or the folder of a trained one; encoder and
            head become one file, see `export.heads`.
        checkpoint: of a detector with a tower of its own, weights in place of the published ones or the folder's.
        layer: export the vision tower up to this block (0-based, negative from the end), without pooling.
        as_maps: feature maps (B, C, h, w) of that block instead of tokens (B, N, C).
        dynamic: leave height and width free, and the length of texts; the batch always is.
        image_size: side of the square of a fixed size, pixels; None is what the model or the head was trained with.
        revision: branch, tag or commit of a repository.
        config: how well the numbers must agree, and how they are timed; None takes the defaults.

    Raises:
        ExportError: an operator that the format lacks, or numbers beyond the bounds; nothing is left behind.
        OutputError: `out` is taken, or cannot be written.
        InputError: an unknown format, maps of a model that pools, or options that do not go together.
        MissingDependencyError: the extra `export` is not installed, or `dense` for a detector.
        CheckpointError, UnknownModelError, ConfigError, LayerError: as `midsight.load`; also a head that is not known,
            or was trained on another encoder.
    """
    if to not in SUFFIXES:
        raise InputError(f"to must be one of {', '.join(SUFFIXES)}; got {to!r}")
    target, config = Path(out), config or ExportConfig()
    _check_free(target)
    if head is not None:
        if layer is not None or as_maps:
            raise InputError("a head reads the blocks that it was trained on; leave out --layer and --as-maps")
        size = HeadSize(image_size, dynamic)
        parts = [head_part(head, source, size, revision=revision, checkpoint=checkpoint)]
    elif checkpoint is not None:
        raise InputError("--checkpoint is for detectors; name one with --head")
    else:
        model = load(source, device="cpu", dtype="fp32", layer=layer, revision=revision, image_size=image_size)
        parts = parts_of(model, as_maps=as_maps, dynamic=dynamic)
    if target.exists():
        os.rmdir(target)  # empty: a new one takes its place whole or not at all
    with whole_folder(target) as here:
        done = [_export_part(part, here, to, config) for part in parts]
        write_json(here / REPORT, _report(done, to, dynamic, config))
    return [Exported(target / one.path.name, one.card, one.agreements, one.latency) for one in done]


def _check_free(target: Path) -> None:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise OutputError(f"{target}: exists already; name a folder that is free, or remove it")


def _export_part(part: Part, folder: Path, to: Format, config: ExportConfig) -> Exported:
    path = folder / f"{part.card.stem}{SUFFIXES[to]}"
    write(part, path, to)
    try:
        runner = Runner(path, threads=torch.get_num_threads())
    except MidsightError:
        raise
    except Exception as error:  # each program has errors of its own
        raise ExportError(f"{path.name}: cannot be opened again ({gist(error)}); take another format") from error
    inputs = inputs_for(part.card, config.batches)
    if part.card.gives == "detections":
        inputs = most_first(part, inputs)
    agreements = check(part, runner, inputs, config, path.name)
    return Exported(path, part.card, agreements, latency(part, runner, inputs[0], config))


def _report(done: list[Exported], to: Format, dynamic: bool, config: ExportConfig) -> dict[str, Any]:
    card = done[0].card
    files = [
        {
            "file": one.path.name,
            "bytes": sum(path.stat().st_size for path in _files(one.path)),
            "sha256": {path.name: content_hash(path) for path in _files(one.path)},
            "input": asdict(one.card.input),
            "output": asdict(one.card.output),
            "others": [asdict(port) for port in one.card.others],
            "agreement": [asdict(agreement) for agreement in one.agreements],
            "latency": asdict(one.latency),
        }
        for one in done
    ]
    return {
        "model": card.model,
        "identity": card.identity,
        "layer": card.layer,
        "head": None if card.head is None else asdict(card.head),
        "format": to,
        "dynamic": dynamic,
        "bounds": asdict(config),
        "files": files,
        "versions": {name: _version(name) for name in PACKAGES},
    }


def _files(path: Path) -> list[Path]:
    """An exported file and the weights beside it, where the format or their size puts them there."""
    return sorted(path.parent.glob(f"{path.stem}.*"))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
