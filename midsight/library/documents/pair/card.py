"""The card of the embedded reader: what it is, what it was made from, how well it does."""

import json
from importlib.resources import files
from pathlib import Path

from midsight.checkpoints.reader import read_json
from midsight.errors import InputError
from midsight.files import atomic_write
from midsight.plm import own
from midsight.train.embedded_spatial.card import lines

TEMPLATE = files("midsight.library.documents.pair") / "card.md"


def write_card(folder: Path, log: Path | None, page: Path, rank: int) -> None:
    """`README.md` and, where there is a log, `curves.png` beside the weights.

    Args:
        folder: of the pair.
        log: `log.jsonl` of its training.
        page: with the measured tables, as `benchmarks/documents.py` wrote them.
        rank: of the differences.
    """
    trained = own.config_of(read_json(folder / "config.json")).metadata["trained"]
    text = TEMPLATE.read_text(encoding="utf-8").format(
        megabytes=f"{(folder / 'model.safetensors').stat().st_size / 1e6:.1f}",
        rank=rank,
        samples=f"{trained['samples']:,}",
        steps=trained["steps"],
        batch=trained["recipe"]["data"]["batch_size"],
        answers=measured(page, "documents_answers"),
        manuals=measured(page, "documents_manuals"),
        strangers=measured(page, "documents_strangers"),
        revision=trained["revision"],
        recipe="\n".join(lines(trained["recipe"])),
    )
    with atomic_write(folder / "README.md") as file:
        file.write(text.encode())
    if log is not None:
        _plot(log, folder / "curves.png")


def measured(page: Path, name: str) -> str:
    """A table between its marks.

    Raises:
        InputError: the page has no such table.
    """
    _, found, rest = page.read_text(encoding="utf-8").partition(f"<!-- measured: {name} -->\n")
    if not found:
        raise InputError(f"{page}: has no table {name}: python -m benchmarks.documents writes it (--write)")
    return rest.partition("<!-- /measured -->")[0].strip()


def _plot(log: Path, target: Path) -> None:
    from matplotlib.figure import Figure

    records = [json.loads(line) for line in log.read_text().splitlines()]
    records = [record for record in records if "loss" in record]
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.plot([record["step"] for record in records], [record["loss"] for record in records], color="#2a6f97")
    axes.set(xlabel="step", ylabel="loss of a batch, nats a token", ylim=(0, None))
    axes.grid(alpha=0.3)
    with atomic_write(target) as file:
        figure.savefig(file, format="png", dpi=110)
