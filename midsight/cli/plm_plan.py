"""`midsight plm plan`: what a model will take, before anything is downloaded or loaded."""

from typing import TYPE_CHECKING, Annotated

import typer

from midsight.cli import options, show
from midsight.errors import InputError

if TYPE_CHECKING:
    from midsight.plm.config import PLMConfig
    from midsight.plm.plan import Plan

MB = 1e6
REPOSITORY = "facebook/Perception-LM-"


def plan(
    model: Annotated[str, typer.Argument(help="1B, 3B, 8B, or the folder of a PLM.", metavar="MODEL")],
    tiles: Annotated[
        int | None,
        typer.Option("--tiles", min=0, help="Tiles of a picture, with the thumbnail. Default: 1.", show_default=False),
    ] = None,
    frames: Annotated[
        int | None, typer.Option("--frames", min=1, help="Frames of a video, in place of tiles.", show_default=False)
    ] = None,
    dtype: Annotated[str, typer.Option("--dtype", help="fp32 or bf16.")] = "bf16",
    quantize: Annotated[
        str | None, typer.Option("--quantize", help="int8 or int4, on a CPU.", show_default=False)
    ] = None,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Prompts that are answered together.")] = 1,
    new_tokens: Annotated[int, typer.Option("--new-tokens", min=1, help="Longest answer, tokens.")] = 256,
    threads: options.Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, bytes.")] = False,
) -> None:
    """Memory that a PerceptionLM takes on a CPU: weights, passes, cache. No weight is read.

    Example: midsight plm plan 3B --tiles 37 --dtype bf16
    """
    if tiles is not None and frames is not None:
        raise InputError("--tiles and --frames are of a picture and of a video: give one of them")
    import torch

    from midsight.plm.plan import Load
    from midsight.plm.plan import plan as made
    from midsight.plm.quantized import check

    if dtype not in ("fp32", "bf16"):
        raise InputError(f"--dtype must be fp32 or bf16, got {dtype!r}")
    kind = torch.float32 if dtype == "fp32" else torch.bfloat16
    if quantize is not None:
        check(quantize, kind, "cpu")  # type: ignore[arg-type]
    count = frames or (1 if tiles is None else tiles)
    load = Load(count, batch, new_tokens, threads=threads or torch.get_num_threads())
    config = _config(model)
    found = made(config, load, kind, quantize)  # type: ignore[arg-type]
    if as_json:
        show.json_line({**vars(found), "total": found.total})
        return
    _table(found)
    if not found.fits:
        longest = found.prompt_tokens + new_tokens
        show.warn(f"prompt and answer have {longest} tokens; the model reads {config.context_length}")


def _config(model: str) -> "PLMConfig":
    from midsight.plm.folders import read_config, resolve
    from midsight.plm.plan import PUBLISHED, published

    name = model.removeprefix(REPOSITORY)
    return published(name) if name in PUBLISHED else read_config(resolve(model))


def _table(found: "Plan") -> None:
    parts = (
        ("vision tower and projector", found.tower),
        ("the tower again, laid out for inference", found.packed_tower),
        ("language model", found.language_model),
        (f"keys and values, {found.prompt_tokens} tokens and the answer", found.cache),
        ("peak of the tower's pass", found.tower_pass),
        ("peak of the prompt's pass", found.prompt_pass),
        ("all, with the larger pass", found.total),
    )
    show.table(("part", "MB"), [(name, f"{size / MB:,.0f}") for name, size in parts], right=("MB",))
