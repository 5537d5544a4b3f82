"""`midsight plm`: PerceptionLM, measured."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from midsight.cli import options, plm_plan, show
from midsight.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from midsight.evaluate.language.model import PLMAnswerer
    from midsight.evaluate.language.question import Question
    from midsight.evaluate.language.report import Figure
    from midsight.evaluate.language.run import Answer
    from midsight.evaluate.language.tasks import Task

INTERRUPTED = 130
SHOWN = 5  # missing files that are named
app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Vision-language models of the PerceptionLM family.",
)


app.command()(plm_plan.plan)


@app.callback()
def _group() -> None:
    pass


@app.command()
def evaluate(
    task: Annotated[
        str,
        typer.Argument(
            help="docvqa, infographicvqa, chartqa, textvqa, vqav2, ai2d, mvbench, perceptiontest, refcoco, refcoco+, "
            "refcocog, coco, fgqa, rtloc, rcap.",
            metavar="TASK",
        ),
    ],
    data: Annotated[Path, typer.Option("--data", help="Folder of the benchmark, as published.", show_default=False)],
    model: Annotated[
        str, typer.Option("--model", "-m", help="Folder or Hugging Face repository of a PLM.", show_default=False)
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for answers.jsonl and report.json.", show_default=False),
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", help="Default: the one that is usually measured.", show_default=False)
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Only the first questions.", show_default=False)
    ] = None,
    revision: options.Revision = None,
    device: options.Device = "auto",
    dtype: Annotated[
        str, typer.Option("--dtype", help="fp32 or bf16; auto is fp32 on a CPU and as stored elsewhere.")
    ] = "auto",
    threads: options.Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, as report.json.")] = False,
) -> None:
    """Measure a model on a benchmark whose files you have: its published metric with a 95 % interval over questions.

    Answers go to --out one by one; stopped, the same command goes on. A question whose picture or video is missing or
    broken counts as wrong, and the exit code is 1.

    Example: midsight plm evaluate docvqa --data DocVQA --model facebook/Perception-LM-1B -o report
    """
    from midsight.evaluate.language.report import figures, record, write_report
    from midsight.evaluate.language.run import check_journal
    from midsight.evaluate.language.tasks import get_task

    chosen = get_task(task)
    with show.status(f"reading {data}"):
        questions = chosen.questions(data, split or "", limit)
    _tell_missing(questions, data)
    settings: dict[str, Any] = {
        "task": task,
        "split": split or chosen.split,
        "model": model,
        "revision": revision,
        "prompt": chosen.prompt.ask("{question}"),
        "dtype": dtype,
        "max_new_tokens": chosen.prompt.max_new_tokens,
    }
    if out is not None:
        check_journal(out, settings)
    answerer = _open(model, revision, device, dtype, threads, chosen)
    answers = _ask(questions, answerer, out, settings)
    found = figures(chosen, answers)
    entries = record(found, answers, settings | {"data": str(data), "limit": limit})
    if out is not None:
        show.note(f"wrote {write_report(out, entries)}")
    if as_json:
        show.json_line(entries)
    else:
        _table(found)
    show.failures(sum(answer.error is not None for answer in answers), len(answers))


def _tell_missing(questions: "Sequence[Question]", data: Path) -> None:
    """Names media that are not there; without any there is nothing to measure."""
    files = {path for question in questions for path in question.media}
    missing = list(dict.fromkeys(path for question in questions for path in question.missing))
    if not missing:
        return
    if all(question.missing for question in questions):
        raise InputError(
            f"{data}: none of the pictures or videos is there; the first was looked for at {missing[0]}. docs/"
            "language_evaluation.md has the layouts"
        )
    show.warn(f"missing: {len(missing)} of {len(files)} files; questions about them count as wrong")
    for path in missing[:SHOWN]:
        show.warn(f"  {path}")
    if len(missing) > SHOWN:
        show.warn(f"  and {len(missing) - SHOWN} more; report.json names each")


def _open(
    model: str, revision: str | None, device: str, dtype: str, threads: int | None, task: "Task"
) -> "PLMAnswerer":
    with show.status(f"loading {model}"):
        from midsight.evaluate.language.model import open_answerer

        return open_answerer(model, task.prompt.max_new_tokens, device, dtype, revision=revision, threads=threads)


def _ask(
    questions: "Sequence[Question]", model: "PLMAnswerer", out: Path | None, settings: dict[str, Any]
) -> "list[Answer]":
    """All answers; leaves with 130 after Ctrl-C."""
    from midsight.evaluate.language.run import ask_all

    answers: list[Answer] = []
    try:
        with options.interruptible() as check_signal, show.progress() as bar:
            task = bar.add_task(settings["task"], total=len(questions))
            for answer in ask_all(questions, model, out, settings):
                check_signal()
                answers.append(answer)
                bar.advance(task)
                if answer.error is not None and not answer.question.missing:
                    show.warn(answer.error)
    except KeyboardInterrupt:
        kept = f" and kept in {out}\nrun the same command again to go on" if out is not None else ""
        show.warn(f"stopped: {len(answers)} of {len(questions)} questions are answered{kept}")
        raise typer.Exit(INTERRUPTED) from None
    if before := sum(answer.before for answer in answers):
        show.note(f"{before} of {len(answers)} answers are from an earlier run")
    return answers


def _table(found: "Sequence[Figure]") -> None:
    rows = [
        (figure.name, f"{figure.value:.1f}", f"{figure.low:.1f} - {figure.high:.1f}", figure.count) for figure in found
    ]
    show.table(("figure", "value", "95 % interval", "questions"), rows, right=("value", "questions"))
