"""`midsight train`: training runs from recipes, and what they would cost."""

import json
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from midsight.cli import options, show
from midsight.errors import InputError

if TYPE_CHECKING:
    from midsight.train.plan import Plan

TERMINATED = 143  # 128 + SIGTERM; Ctrl-C gives 130
RECIPES = {"PE-Core-B16-224": "core_b16", "PE-Core-L14-336": "core_l14", "PE-Core-G14-448": "core_g14"}
_SHOWN = (
    ("loss", "{:.4f}"),
    ("mask_loss", "{:.4f}"),
    ("lr", "{:.2e}"),
    ("logit_scale", "{:.1f}"),
    ("samples_per_second", "{:.0f} samples/s"),
    ("mfu", "mfu {:.1%}"),
    ("memory_gib", "{:.1f} GiB"),
)

_SPATIAL_LOSSES = ("loss", "semantic", "locality", "pairs", "tokens")
_DETECT_FIGURES = ("box AP", "box AP50", "box AP75", "mask AP", "mask AP50", "mask AP75")

app = typer.Typer(no_args_is_help=True, help="Train models from recipes.", rich_markup_mode="markdown")


@app.callback()
def _group() -> None:
    pass


@app.command()
def core(
    recipe: Annotated[
        str | None,
        typer.Argument(
            help="TOML file, or one that is shipped: core_finetune (taken with --from), core_l14, core_video, "
            "core_distill_s16, core_tiny.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data", help="Shards, CSV or JSONL of pairs, or a folder with one for each class.", show_default=False
        ),
    ] = None,
    out: options.RunFolder = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from", help="Weights to begin with: name, folder, checkpoint, or embedded.", show_default=False
        ),
    ] = None,
    also: Annotated[
        str | None,
        typer.Option("--also", help="Finetuning: a data set that must not be forgotten.", show_default=False),
    ] = None,
    resume: options.Resume = False,
    changes: options.Changes = None,
    plan: Annotated[
        str | None,
        typer.Option("--plan", metavar="NAME", help="Only say what training this model costs.", show_default=False),
    ] = None,
    gpus: Annotated[int, typer.Option("--gpus", min=1, help="For --plan: how many.")] = 8,
    gpu: Annotated[str, typer.Option("--gpu", help="For --plan: A100, H100, H200 or B200.")] = "H100",
    mfu: Annotated[float, typer.Option("--mfu", min=0.01, max=1, help="For --plan: share of the peak reached.")] = 0.35,
    price: Annotated[float, typer.Option("--price", min=0, help="For --plan: US dollars a GPU and hour.")] = 2.5,
    as_json: options.Json = False,
) -> None:
    """Train image and text towers together: finetuning, pretraining, video finetuning, distillation.

    SIGTERM and Ctrl-C save and leave; --resume ends in the same weights as a run that was never stopped. On many GPUs:
    torchrun --nproc-per-node 8 -m midsight.cli.main train core RECIPE ...

    Example: midsight train core --from PE-Core-S16-384 --data photos/ --out runs/mine

    Example: midsight train core core_tiny --data pairs.csv --out runs/tiny

    Example: midsight train core --plan PE-Core-G14-448 --gpus 512
    """
    if plan is not None:
        _show_plan(_recipe_of(plan, recipe), list(changes or ()), (gpu, gpus, mfu, price), as_json)
        return
    recipe = recipe or ("core_finetune" if start else None)
    if recipe is None or data is None or out is None:
        raise InputError(
            "a run needs --data, --out and a recipe, or --from to finetune; or --plan NAME to see what it would cost"
        )
    from midsight.train.config import read_recipe
    from midsight.train.core import train_core

    given = (("data.source", data), ("model.start", start), ("finetune.also", also))
    named = [f"{key}={json.dumps(value)}" for key, value in given if value]
    config = read_recipe(recipe, [*(changes or ()), *named])
    report = show.json_line if as_json else _line
    outcome = train_core(config, out, resume=resume, report=lambda record: report(dict(record)))
    if not outcome.finished:
        if outcome.rank == 0:
            show.warn(f"stopped after step {outcome.step}; go on with --resume")
        raise typer.Exit(128 + outcome.signal if outcome.signal else TERMINATED)
    if outcome.rank == 0:
        if outcome.figures:
            _show_figures(dict(outcome.figures), as_json)
        show.note(f"step {outcome.step}: done, {outcome.model}")
    leave_workers()


@app.command()
def detect(
    recipe: Annotated[
        str,
        typer.Argument(help="TOML file, or one that is shipped: detect_mask_rcnn, detect_lvis, detect_deta."),
    ] = "detect_finetune",
    images: Annotated[
        str | None, typer.Option("--images", help="Folder of the training pictures.", show_default=False)
    ] = None,
    annotations: Annotated[
        str | None, typer.Option("--annotations", help="Their annotations, COCO's JSON.", show_default=False)
    ] = None,
    validation: Annotated[
        str | None,
        typer.Option("--validation", help="Annotations that are measured and not trained on.", show_default=False),
    ] = None,
    validation_images: Annotated[
        str | None,
        typer.Option("--validation-images", help="Folder of their pictures; else as --images.", show_default=False),
    ] = None,
    out: options.RunFolder = None,
    start: Annotated[
        str | None, typer.Option("--from", help="A detector: published name, or a folder.", show_default=False)
    ] = None,
    tower: Annotated[
        str | None,
        typer.Option(
            "--tower", help="A plain encoder: name, folder, checkpoint. The rest is fresh.", show_default=False
        ),
    ] = None,
    resume: options.Resume = False,
    changes: options.Changes = None,
    as_json: options.Json = False,
) -> None:
    """Train a detector: Mask R-CNN or DETA, on pictures with annotations in COCO's format.

    SIGTERM and Ctrl-C save and leave; --resume ends in the same weights as a run that was never stopped.

    Example: midsight train detect --from mask_rcnn_PEspatial_G_coco36ep --images photos --annotations photos.json
    --out runs/mine

    Example: midsight train detect --tower PE-Spatial-B16-512 --set model.frozen=true --images photos
    --annotations photos.json --out runs/small
    """
    if images is None or annotations is None or out is None:
        raise InputError("a run needs --images, --annotations and --out")
    from midsight.train.detect import train_detector
    from midsight.train.detect_config import read_detect_recipe

    given = {"data.images": images, "data.annotations": annotations, "model.start": start, "model.tower": tower}
    given |= {"data.validation_annotations": validation, "data.validation_images": validation_images}
    named = [f"{key}={json.dumps(value)}" for key, value in given.items() if value]
    config = read_detect_recipe(recipe, [*(changes or ()), *named])
    report = show.json_line if as_json else _detect_line
    outcome = train_detector(config, out, resume=resume, report=lambda record: report(dict(record)))
    if not outcome.finished:
        show.warn(f"stopped after step {outcome.step}; go on with --resume")
        raise typer.Exit(128 + outcome.signal if outcome.signal else TERMINATED)
    show.note(f"step {outcome.step}: done, {outcome.model}")


@app.command()
def spatial(
    recipe: Annotated[
        str,
        typer.Argument(help="TOML file, or one that is shipped: spatial_g14, spatial_distill, spatial_embedded."),
    ],
    data: Annotated[
        str | None, typer.Option("--data", help="Pictures: shards, a table or a folder.", show_default=False)
    ] = None,
    out: options.RunFolder = None,
    start: Annotated[
        str | None,
        typer.Option("--from", help="A PE-Core: name, folder, checkpoint, or embedded.", show_default=False),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option("--teacher", help="A larger PE-Spatial, in place of masks.", show_default=False),
    ] = None,
    resume: options.Resume = False,
    changes: options.Changes = None,
    as_json: options.Json = False,
) -> None:
    """Align a PE-Core to a PE-Spatial: its own middle layer, and masks that say which places belong together.

    Masks come from SAM 2.1 (locality.teacher=sam), or from shards of the scene engine (locality.teacher=scenes).
    SIGTERM and Ctrl-C save and leave; --resume ends in the same weights as a run that was never stopped. On many GPUs:
    torchrun --nproc-per-node 8 -m midsight.cli.main train spatial RECIPE ...

    Example: midsight train spatial spatial_embedded --from embedded --data scenes/ --out runs/spatial

    Example: midsight train spatial spatial_g14 --data shards/ --out runs/spatial-g
    """
    if data is None or out is None:
        raise InputError("a run needs --data and --out")
    from midsight.train.align_spatial import train_spatial
    from midsight.train.spatial_config import read_spatial_recipe

    given = {"data.source": data, "model.start": start, "teacher.start": teacher}
    named = [f"{key}={json.dumps(value)}" for key, value in given.items() if value]
    config = read_spatial_recipe(recipe, [*(changes or ()), *named])
    report = show.json_line if as_json else _spatial_line
    outcome = train_spatial(config, out, resume=resume, report=lambda record: report(dict(record)))
    if not outcome.finished:
        if outcome.rank == 0:
            show.warn(f"stopped after step {outcome.step}; go on with --resume")
        raise typer.Exit(128 + outcome.signal if outcome.signal else TERMINATED)
    if outcome.rank == 0:
        show.note(f"step {outcome.step}: done, {outcome.model}")
    leave_workers()


def _spatial_line(record: Mapping[str, Any]) -> None:
    """One record of an alignment's log for people."""
    parts = "  ".join(f"{key} {record[key]:.4f}" for key in _SPATIAL_LOSSES if key in record)
    skipped = f"  left out: {sum(record['skipped'].values())}" if record.get("skipped") else ""
    speed = f"{record['samples_per_second']:.1f} pictures/s"
    show.note(f"step {record['step']}/{record['of']}  {parts}  lr {record['lr']:.2e}  {speed}{skipped}")


def _detect_line(record: Mapping[str, Any]) -> None:
    """One record of a detector's log for people."""
    if "of" not in record:
        figures = "  ".join(f"{key} {value:.3f}" for key, value in record.items() if key in _DETECT_FIGURES)
        show.note(f"step {record['step']}  {figures}")
        return
    losses = "  ".join(f"{key} {value:.3f}" for key, value in record.items() if key.startswith("loss"))
    speed = f"{record['samples_per_second']:.1f} pictures/s"
    show.note(f"step {record['step']}/{record['of']}  {losses}  lr {record['lr']:.2e}  {speed}")


def _show_figures(figures: dict[str, Any], as_json: bool) -> None:
    """Before and after of a finetuned model."""
    from midsight.train import report

    if as_json:
        show.json_line({"report": figures})
        return
    if not figures["compared"]:
        show.warn("nothing was held out, so nothing is known of how good it is (finetune.holdout)")
        return
    columns = ("zero-shot", "before", "after", "samples")
    show.table(columns, report.rows_of(figures), right=("samples",))
    for line in figures["verdict"]:
        show.warn(line, style="bold red" if "WORSE" in line else "bold")
    show.note(report.explanation(figures))


def leave_workers() -> None:
    """Ends a process of torchrun at once: all is written, and threads of the collectives' C++ code can abort a process
    that takes Python down in its own time (seen once with gloo: "terminate called without an active exception")."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _line(record: Mapping[str, Any]) -> None:
    """One record of the log for people."""
    if "of" not in record:
        figures = " ".join(f"{key} {value:.4f}" for key, value in record.items() if key != "step")
        show.note(f"step {record['step']}  {figures}")
        return
    named = {"lr", "loss", "mask_loss", "logit_scale"}
    parts = [
        (f"{key} " if key in named else "") + layout.format(record[key]) for key, layout in _SHOWN if key in record
    ]
    if "skipped" in record:
        parts.append("left out: " + ", ".join(f"{count} {reason}" for reason, count in record["skipped"].items()))
    show.note(f"step {record['step']}/{record['of']} at {record['image_size']} px  " + "  ".join(parts))


def _recipe_of(name: str, recipe: str | None) -> str:
    if recipe is not None:
        return recipe
    from midsight.configs import find_model

    found = find_model(name).name
    if found not in RECIPES:
        raise InputError(f"the recipe of {found} is not published; name one: midsight train core RECIPE --plan {found}")
    return RECIPES[found]


def _show_plan(recipe: str, changes: list[str], asked: tuple[str, int, float, float], as_json: bool) -> None:
    from midsight.train.config import read_recipe
    from midsight.train.plan import PEAK_FLOPS, Assumptions, make_plan

    gpu, gpus, mfu, price = asked
    if gpu not in PEAK_FLOPS:
        raise InputError(f"--gpu {gpu}: the peak of this GPU is not known; known are {', '.join(PEAK_FLOPS)}")
    plan = make_plan(read_recipe(recipe, changes), Assumptions(gpu, gpus, mfu, price))
    if as_json:
        show.json_line(_record(recipe, plan))
        return
    rows = [
        (
            str(s.image_size),
            f"{s.samples / 1e9:.2f}B",
            f"{s.steps:,}",
            f"{s.flops:.2e}",
            f"{s.hours:,.0f}",
            _gib(s.memory_gib),
        )
        for s in plan.stages
    ]
    total = sum(s.samples for s in plan.stages), sum(s.steps for s in plan.stages)
    rows.append(
        (
            "all",
            f"{total[0] / 1e9:.2f}B",
            f"{total[1]:,}",
            f"{plan.flops:.2e}",
            f"{plan.hours:,.0f}",
            _gib(plan.memory_gib),
        )
    )
    columns = ("pixels", "samples", "steps", "FLOPs", "hours", "memory a GPU")
    show.table(columns, rows, right=columns)
    show.out().print()
    facts = (
        ("recipe", recipe),
        ("parameters", f"{plan.vision_parameters / 1e6:,.0f}M vision, {plan.text_parameters / 1e6:,.0f}M text"),
        ("time", f"{plan.hours:,.0f} hours ({plan.hours / 24:,.1f} days) on {gpus} x {gpu}"),
        ("cost", f"{plan.cost:,.0f} US dollars at {price:g} a GPU and hour"),
        ("assumed", f"{mfu:.0%} of the {PEAK_FLOPS[gpu] / 1e12:,.0f} TFLOP/s peak (dense bf16) counting recomputation"),
        (
            "assumed",
            f"{plan.passes} forward passes a sample for gradients of the whole batch; no pauses, no evaluation",
        ),
        ("assumed", "state of 16 bytes a parameter, shared by all GPUs; activations about (10 + 2 x MLP ratio) widths"),
    )
    show.table(("", ""), facts, header=False)


def _gib(value: float) -> str:
    return f"{value:,.1f} GiB"


def _record(recipe: str, plan: "Plan") -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "recipe": recipe,
        "assumptions": asdict(plan.assumptions),
        "vision_parameters": plan.vision_parameters,
        "text_parameters": plan.text_parameters,
        "stages": [asdict(stage) for stage in plan.stages],
        "flops": plan.flops,
        "hours": plan.hours,
        "cost_usd": plan.cost,
        "memory_gib": plan.memory_gib,
    }
