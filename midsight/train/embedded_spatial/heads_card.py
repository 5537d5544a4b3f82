"""The card of the shipped heads, and the table in it."""

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

from midsight.api import load
from midsight.api.perceive import HEADS_OF, load_perceiver
from midsight.data.scenes.folders import CLASSES
from midsight.evaluate import scene_probes as probes
from midsight.evaluate.heads import HeadFigures, measure_heads, prior
from midsight.evaluate.scene_probes import Answer
from midsight.files import atomic_write
from midsight.tasks.saved import read_head
from midsight.train.embedded_spatial.card import lines
from midsight.train.embedded_spatial.scenes import HEAD_SETS

TEMPLATE = files("midsight.train.embedded_spatial") / "heads_card.md"
SPLITS = {
    "unseen": "furniture that neither encoder nor heads have seen",
    "test": "furniture that the heads have not seen",
}
_EVERY = 100  # pictures, from one sign of life to the next


def measure(folder: Path, root: Path, report: Callable[[str], None]) -> str:
    """The table, Markdown.

    Args:
        folder: of the three heads.
        root: scenes as folders, see `midsight.data.scenes.folders`.
    """
    perceiver = load_perceiver(folder, load(HEADS_OF, "cpu"))
    depths = read_head(folder / "depth").depths
    farthest = depths.farthest if depths else 10.0
    known = prior(root, len(CLASSES), farthest)
    found = {}
    for split in SPLITS:

        def tell(done: int, split: str = split) -> None:
            if done % _EVERY == 0:
                report(f"{split}: {done} pictures")

        found[split] = measure_heads(perceiver, root, split, CLASSES, known, farthest, tell)
    return "\n".join([*_figures(found, farthest), "", *_classes(found)])


def write(folder: Path, scenes: str | None = None, photographs: str | None = None) -> None:
    """`README.md` beside the heads.

    Args:
        scenes, photographs: tables, Markdown; None keeps what stands in the card that is there.
    """
    old = folder / "README.md"
    before = old.read_text(encoding="utf-8") if old.exists() else ""
    parts = {
        name: _marked(name, _inside(name, before) if given is None else given)
        for name, given in (("scenes", scenes), ("photographs", photographs))
    }
    saved = {name: read_head(folder / name) for name in ("segment", "depth", "detect")}
    sizes = {name: (folder / name / "model.safetensors").stat().st_size / 1e6 for name in saved}
    recipes = "\n\n".join(
        f"{name} (git revision {one.trained['revision']}):\n" + "\n".join(lines(one.trained["recipe"]))
        for name, one in saved.items()
    )
    text = TEMPLATE.read_text(encoding="utf-8").format(
        table=parts["scenes"],
        photographs=parts["photographs"],
        recipes=recipes,
        scenes=HEAD_SETS[0].count,
        **{name: f"{size:.1f}" for name, size in sizes.items()},
    )
    with atomic_write(folder / "README.md") as file:
        file.write(text.encode())


def _marked(name: str, text: str) -> str:
    """A part of the card that can be found again."""
    return f"<!-- {name} -->\n{text}\n<!-- end of {name} -->"


def _inside(name: str, card: str) -> str:
    """What a marked part of a card holds."""
    start, end = f"<!-- {name} -->\n", f"\n<!-- end of {name} -->"
    return card.split(start, 1)[1].split(end, 1)[0] if start in card and end in card else "(not measured yet)"


def _figures(found: dict[str, HeadFigures], farthest: float) -> list[str]:
    heads = [f"{SPLITS[split]} ({one.pictures} scenes)" for split, one in found.items()]
    rows: list[tuple[str, list[str]]] = [
        (f"segmentation, mIoU of {len(CLASSES)} classes", [_cell(f.segmentation) for f in found.values()]),
        ("the most frequent class of each place", [_cell(f.segmentation_prior) for f in found.values()]),
        (f"depth, RMSE up to {farthest:g} m", [_cell(f.depth, 2) for f in found.values()]),
        ("the median depth of each place", [_cell(f.depth_prior, 2) for f in found.values()]),
        ("depth, pixels within a factor of 1.25, %", [_cell(f.within) for f in found.values()]),
        ("the median depth of each place", [_cell(f.within_prior) for f in found.values()]),
    ]
    for name in ("box AP50", "mask AP50"):
        rows.append((f"detection, {name}", [_interval(*f.average_precision[name]) for f in found.values()]))
    for name in ("box AP", "mask AP"):
        rows.append((f"detection, {name}", [f"{f.precision[name]:.1f}" for f in found.values()]))
    top = ["| | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    return top + [f"| {name} | " + " | ".join(cells) + " |" for name, cells in rows]


def _classes(found: dict[str, HeadFigures]) -> list[str]:
    names = [name for name in CLASSES if any(name in f.iou for f in found.values())]
    top = ["| IoU, % | " + " | ".join(found) + " |", "|---" * (len(found) + 1) + "|"]
    cells = [[f"{f.iou[name]:.0f}" if name in f.iou else "-" for f in found.values()] for name in names]
    return top + [f"| {name} | " + " | ".join(row) + " |" for name, row in zip(names, cells, strict=True)]


def _cell(answer: Answer, digits: int = 1) -> str:
    return _interval(answer.value, *probes.interval(answer), digits=digits)


def _interval(value: float, low: float, high: float, digits: int = 1) -> str:
    return f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"
