"""`midsight models`: every published configuration at a glance."""

import math
from typing import Annotated, Any

import typer
from rich.text import Text

from midsight.cli import show
from midsight.configs import MODELS, ModelInfo, PEConfig, PETextConfig

WIDE, MIDDLE = 130, 80  # columns of a terminal from which more is shown


def models(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List every published model: size, input, published figures, where its weights are, whether they are here."""
    records = [record(info) for info in MODELS.values()]
    if as_json:
        for entry in records:
            show.json_line(entry)
        return
    width = show.out().width
    columns = ["model", "parameters", "input"]
    columns += ["published figures"] if width >= MIDDLE else []
    columns += ["weights"] if width >= WIDE else []
    show.table([*columns, "here"], [_row(entry, columns) for entry in records], right=("parameters", "input"))
    show.out().print(
        Text("\nparameters: vision + text, millions; input: pixels a side; here: weights in the cache", "dim")
    )


def record(info: ModelInfo) -> dict[str, Any]:
    """What is known about a model, as plain data."""
    from midsight.checkpoints.hub import is_cached

    vision = count(info.vision)
    return {
        "name": info.name,
        "family": info.family,
        "vision_parameters": vision,
        "text_parameters": count(info.vision, info.text) - vision - 1 if info.text else 0,  # without logit_scale
        "image_size": info.vision.image_size,
        "layers": info.vision.layers,
        "context_length": info.text.context_length if info.text else None,
        "output_dim": info.vision.output_dim,
        "figures": dict(info.figures),
        "source": info.source,
        "repository": info.repo_id,
        "file": info.filename,
        "here": is_cached(info.name),
    }


def _row(entry: dict[str, Any], columns: list[str]) -> list[object]:
    sizes = [f"{entry['vision_parameters'] / 1e6:,.1f}"]
    sizes += [f"{entry['text_parameters'] / 1e6:,.1f}"] if entry["text_parameters"] else []
    cells = {
        "model": entry["name"],
        "parameters": " + ".join(sizes),
        "input": entry["image_size"],
        "published figures": ", ".join(f"{what} {value}" for what, value in entry["figures"].items()),
        "weights": f"hf://{entry['repository']}",
    }
    return [*(cells[name] for name in columns), Text("yes", "green") if entry["here"] else Text("no", "dim")]


def count(vision: PEConfig, text: PETextConfig | None = None) -> int:
    """Parameters of a configuration, from the shapes of its tensors: nothing is allocated."""
    from midsight.checkpoints import expected_shapes

    return sum(math.prod(shape) for shape in expected_shapes(vision, text).values())
