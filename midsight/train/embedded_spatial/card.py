"""The embedded PE-Spatial as it ships: half precision, and a card that says what it is and how well it does."""

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from midsight.checkpoints import load_pretrained, save_pretrained
from midsight.files import atomic_write
from midsight.train.embedded_spatial.measure import Asked
from midsight.train.embedded_spatial.scenes import SETS

TEMPLATE = files("midsight.train.embedded_spatial") / "card.md"
NAME = "embedded-spatial"


def save(model: Path, out: Path) -> None:
    """A run's model, in half precision, as `out`."""
    found = load_pretrained(model)
    save_pretrained(
        out, found.state_dict, name=NAME, vision=found.vision, text=None, preprocess=found.preprocess,
        metadata=found.metadata, dtype=torch.float16,
    )  # fmt: skip


def write(out: Path, table: str, asked: Asked) -> None:
    """`README.md` beside the weights."""
    found = load_pretrained(out)
    recipe = found.metadata["recipe"]
    sizes = {one.name: one.count for one in SETS}
    text = TEMPLATE.read_text(encoding="utf-8").format(
        megabytes=f"{(out / 'model.safetensors').stat().st_size / 1e6:.1f}",
        blocks=found.vision.layers,
        image_size=found.preprocess.image_size,
        samples=found.metadata["samples"],
        scenes=sizes["train"],
        probe=len(asked.probe),
        test=len(asked.test),
        clips=len(asked.videos),
        kinds=len(asked.kinds),
        revision=found.metadata["revision"],
        recipe="\n".join(lines(recipe)),
        table=table,
    )
    with atomic_write(out / "README.md") as file:
        file.write(text.encode())


def lines(settings: dict[str, Any], above: str = "") -> Iterator[str]:
    """Settings as lines that `--set` takes."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from lines(value, f"{above}{key}.")
        else:
            yield f"{above}{key} = {value!r}"
