"""The model card: what the model is, from what it was made and under which terms, how well it does."""

from collections.abc import Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from midsight.checkpoints import load_pretrained
from midsight.data.packaged import EVERYDAY, Picture
from midsight.data.packages import PACKAGES
from midsight.evaluate.open_moji import Figure
from midsight.files import atomic_write
from midsight.train.embedded.clips import OF_EACH
from midsight.train.embedded.recipe import Recipe

CURVES = "curves.png"  # beside the card
RESULTS, AFTER = "<!-- results -->", "<!-- end of results -->"
TEMPLATE = files("midsight.train.embedded") / "card.md"


def write(out: Path, recipe: Recipe, photographs: Sequence[Picture], furniture: Sequence[Picture]) -> None:
    """Write `README.md` beside the weights in `out`; its tables of results are left to `put_results`."""
    found = load_pretrained(out)
    parameters = {
        "trunk": _count(found.state_dict, "visual.stem."),
        "vision": _count(found.state_dict, "visual.") - _count(found.state_dict, "visual.stem."),
        "text": _count(found.state_dict, "") - _count(found.state_dict, "visual."),
    }
    text = TEMPLATE.read_text(encoding="utf-8").format(
        megabytes=f"{(out / 'model.safetensors').stat().st_size / 1e6:.1f}",
        **{key: f"{value / 1e6:.1f}" for key, value in parameters.items()},
        samples=recipe.samples,
        of_each=OF_EACH,
        everyday=len(EVERYDAY.read_text(encoding="utf-8").splitlines()) - 1,
        image_size=found.preprocess.image_size,
        blocks=found.vision.layers,
        text_blocks=found.text.layers if found.text else 0,
        revision=found.metadata["revision"],
        recipe="\n".join(_lines(asdict(recipe))),
        packages="\n".join(
            f"| {p.name} {p.version} | {p.registry} | {p.licence} | {p.attribution} |"
            for p in PACKAGES.values()
            if p.shipped
        ),
        photographs="\n".join(f"- {p.path.name}: {p.author or 'no name given'}, {p.licence}" for p in photographs),
        creators=", ".join(sorted({p.author for p in furniture if p.author and p.licence != "CC0-1.0"})),
        results=f"{RESULTS}\n(not measured yet)\n{AFTER}",
    )
    _save(out / "README.md", text)


def put_results(out: Path, pictures: Sequence[Figure], clips: Sequence[Figure]) -> None:
    """Replace the tables of results in the card."""
    text = (out / "README.md").read_text(encoding="utf-8")
    before, rest = text.split(RESULTS, 1)
    tables = f"{_table(pictures, 'pictures or crops')}\n\n{_table(clips, 'clips')}"
    _save(out / "README.md", f"{before}{RESULTS}\n{tables}\n{AFTER}{rest.split(AFTER, 1)[1]}")


def _table(figures: Sequence[Figure], counted: str) -> str:
    rows = "\n".join(line(figure) for figure in figures)
    return f"| what | % (95 % interval) | chance, % | {counted} |\n|---|---|---|---|\n{rows}"


def line(figure: Figure) -> str:
    """One row of the table, in percent."""
    share = f"{100 * figure.value:.1f} ({100 * figure.low:.1f} to {100 * figure.high:.1f})"
    return f"| {figure.metric} | {share} | {100 * figure.chance:.2f} | {figure.count} |"


def _save(path: Path, text: str) -> None:
    with atomic_write(path) as file:
        file.write(text.encode())


def _count(state: dict[str, torch.Tensor], prefix: str) -> int:
    return sum(tensor.numel() for key, tensor in state.items() if key.startswith(prefix))


def _lines(values: dict[str, Any], where: str = "") -> list[str]:
    """Settings as `table.key = value`."""
    lines = []
    for key, value in values.items():
        lines += _lines(value, f"{where}{key}.") if isinstance(value, dict) else [f"{where}{key} = {value}"]
    return lines
