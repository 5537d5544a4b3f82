"""`midsight train segment` and `midsight train depth`: heads over a frozen encoder."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from midsight.cli import options, show
from midsight.errors import InputError

if TYPE_CHECKING:
    from midsight.train.dense import DenseOutcome
    from midsight.train.dense_config import DenseConfig

TERMINATED = 143

Data = Annotated[str | None, typer.Option("--data", help="Folder of pictures and targets.", show_default=False)]
Validation = Annotated[
    str | None,
    typer.Option("--validation", help="Folder to measure on. Default: the part for it in --data.", show_default=False),
]
Out = Annotated[
    Path | None, typer.Option("--out", help="Folder of the run: checkpoint, log, features, model.", show_default=False)
]
Start = Annotated[
    str | None,
    typer.Option("--from", help="The frozen encoder: name, folder, checkpoint, or embedded.", show_default=False),
]
Layers = Annotated[
    str | None,
    typer.Option("--layers", help='Blocks to read, 0-based, negative from the end: "-1", "5,11".', show_default=False),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in --out.")]
Changes = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a setting: optim.lr=1e-3.")
]


def segment(
    recipe: Annotated[
        str | None,
        typer.Argument(help="TOML file, or one that is shipped: segment_ade20k, segment_scenes.", show_default=False),
    ] = None,
    data: Data = None,
    out: Out = None,
    start: Start = None,
    classes: Annotated[
        int | None, typer.Option("--classes", min=1, help="How many classes the labels have.", show_default=False)
    ] = None,
    layers: Layers = None,
    validation: Validation = None,
    resume: Resume = False,
    changes: Changes = None,
    as_json: options.Json = False,
) -> None:
    """Train a head for semantic segmentation on features of a frozen encoder.

    --data holds images/training with annotations/training as in ADE20K, or images and masks; labels are indexed or grey
    PNG, 255 does not count. SIGTERM and Ctrl-C save and leave; --resume ends in the same weights.

    Example: midsight train segment --from PE-Spatial-S16-512 --data fields/ --classes 4 --out runs/fields

    Example: midsight train segment segment_ade20k --from PE-Spatial-L14-448 --data ade/ --out runs/ade
    """
    from midsight.train.config import read_settings
    from midsight.train.dense_config import SegmentTrainConfig
    from midsight.train.segment import train_segment

    named = _named(data, start, layers, validation)
    named += [] if classes is None else [f"labels.classes={classes}"]
    config = read_settings(SegmentTrainConfig(), recipe, [*(changes or ()), *named])
    folder = _needs(config, out)
    _end(train_segment(config, folder, resume=resume, report=_reporter(as_json)), as_json)


def depth(
    recipe: Annotated[
        str | None,
        typer.Argument(help="TOML file, or one that is shipped: depth_nyu, depth_scenes.", show_default=False),
    ] = None,
    data: Data = None,
    out: Out = None,
    start: Start = None,
    layers: Layers = None,
    validation: Validation = None,
    resume: Resume = False,
    changes: Changes = None,
    as_json: options.Json = False,
) -> None:
    """Train a head for depth in metres on features of a frozen encoder.

    --data holds nyu_train.txt and nyu_test.txt with lines of "rgb depth focal", or images and depth; depth is 16-bit
    PNG in millimetres, 0 is unknown. SIGTERM and Ctrl-C save and leave; --resume ends in the same weights.

    Example: midsight train depth depth_nyu --from PE-Spatial-L14-448 --data nyu/ --out runs/nyu
    """
    from midsight.train.config import read_settings
    from midsight.train.dense_config import DepthTrainConfig
    from midsight.train.depth import train_depth

    named = _named(data, start, layers, validation)
    config = read_settings(DepthTrainConfig(), recipe, [*(changes or ()), *named])
    folder = _needs(config, out)
    _end(train_depth(config, folder, resume=resume, report=_reporter(as_json)), as_json)


def _needs(config: "DenseConfig", out: Path | None) -> Path:
    """The run's folder; encoder and data may also come from the recipe."""
    if not config.data.source or not config.encoder.name or out is None:
        raise InputError("a run needs --data, --from (the frozen encoder) and --out")
    return out


def _named(data: str | None, start: str | None, layers: str | None, validation: str | None) -> list[str]:
    """Options as settings."""
    given = (("data.source", data), ("encoder.name", start), ("data.validation", validation))
    named = [f"{key}={json.dumps(value)}" for key, value in given if value]
    if layers is not None:
        try:
            named.append(f"encoder.layers={[int(layer) for layer in layers.split(',')]}")
        except ValueError:
            raise InputError(f'--layers must be numbers such as "-1" or "5,11", got {layers!r}') from None
    return named


def _reporter(as_json: bool) -> Any:
    return (lambda record: show.json_line(dict(record))) if as_json else _line


def _line(record: Mapping[str, Any]) -> None:
    """One record of the log for people."""
    if "of" not in record:
        figures = "  ".join(f"{key} {value:.4f}" for key, value in record.items() if key != "step")
        show.note(f"step {record['step']}  {figures}")
        return
    parts = [f"{key} {layout.format(record[key])}" for key, layout in (("loss", "{:.4f}"), ("lr", "{:.2e}"))
             if key in record]  # fmt: skip
    if "skipped" in record:
        parts.append("left out: " + ", ".join(f"{count} {reason}" for reason, count in record["skipped"].items()))
    show.note(f"step {record['step']}/{record['of']}  " + "  ".join(parts))


def _end(outcome: "DenseOutcome", as_json: bool) -> None:
    if not outcome.finished:
        show.warn(f"stopped after step {outcome.step}; go on with --resume")
        raise typer.Exit(128 + outcome.signal if outcome.signal else TERMINATED)
    if as_json:
        show.json_line({"model": str(outcome.model), "figures": dict(outcome.figures)})
    elif outcome.figures:
        show.table(("figure", "value"), [(name, f"{value:.4f}") for name, value in outcome.figures.items()])
    show.note(f"step {outcome.step}: done, {outcome.model}")
