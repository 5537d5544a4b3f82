"""`midsight classify`: which of these names fits best?"""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from midsight.cli import options, show

if TYPE_CHECKING:
    from midsight.api import Outcome
    from midsight.tasks.zero_shot import Prediction

SHOWN = 5  # labels for each file in the table for people


def classify(
    files: options.Paths,
    labels: Annotated[
        str,
        typer.Option("--labels", "-l", help='Names, separated by commas ("a dog,a cat"), or @FILE with one a line.'),
    ],
    templates: Annotated[
        str,
        typer.Option(
            "--templates",
            "-t",
            help='plain, photo, imagenet1k, kinetics, one text with "{c}", or @FILE with one a line.',
        ),
    ] = "plain",
    top: Annotated[
        int | None,
        typer.Option(
            "--top", "-k", min=1, show_default=False, help=f"Labels for each file. Default: all as JSON, else {SHOWN}."
        ),
    ] = None,
    as_json: options.Json = False,
    model: options.Model = None,
    revision: options.Revision = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    image_size: options.ImageSize = None,
    threads: options.Threads = None,
    frames: options.Frames = 8,
    batch_size: options.BatchSize = None,
) -> None:
    """Zero-shot classification of pictures and videos: the names and how likely each is among them, best first.

    Example: midsight classify photos/ --labels "a dog,a cat,neither"
    """
    names, prompts = options.read_list(labels, "labels"), options.read_templates(templates)
    from midsight.library.scan import find_media
    from midsight.tasks.zero_shot import check_labels, resolve_templates

    names = check_labels(names)
    resolve_templates(prompts)
    paths = find_media(files)
    loaded = options.open_model(model, device, dtype, revision=revision, image_size=image_size, threads=threads)
    outcomes = loaded.iter_classify(
        paths, names, prompts, top_k=top or (None if as_json else SHOWN), num_frames=frames, batch_size=batch_size
    )
    failed, rows = 0, []
    with show.progress() as bar:
        task = bar.add_task("classify", total=len(paths))
        for outcome in outcomes:
            failed += outcome.error is not None
            if as_json:
                show.json_line(_record(outcome))
            else:
                rows += _rows(outcome)
            bar.advance(task)
    if rows:
        show.table(("file", "label", "probability"), rows, right=("probability",))
    show.failures(failed, len(paths))


def _record(outcome: "Outcome[list[Prediction]]") -> dict[str, object]:
    if outcome.value is None:
        return {"path": str(outcome.source), "error": str(outcome.error)}
    predictions = [{"label": prediction.label, "score": prediction.score} for prediction in outcome.value]
    return {"path": str(outcome.source), "predictions": predictions}


def _rows(outcome: "Outcome[list[Prediction]]") -> list[tuple[object, ...]]:
    """Lines of the table; the file's name stands on its first line only."""
    if outcome.value is None:
        show.warn(outcome.error)
        return [(outcome.source, Text("not read", "red"), "")]
    names = [str(outcome.source), *[""] * (len(outcome.value) - 1)]
    return [
        (name, prediction.label, f"{prediction.score:.1%}")
        for name, prediction in zip(names, outcome.value, strict=True)
    ]
