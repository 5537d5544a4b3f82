"""How one document looks: page, fonts, colours, and random numbers that its layout chooses by."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from midsight.data.documents.fonts import Category, Family
from midsight.data.documents.icons import coloured
from midsight.data.documents.layouts import Shape
from midsight.data.documents.vocabulary import Vocabulary

SMALLEST = 0.85  # of the text size: no layout sets anything smaller
_TIGHT = 0.6  # of what a kind usually holds
_ACCENTS = (
    "#1f4e79", "#7a1f2b", "#1d6b3c", "#5b2a86", "#8a4b08", "#00606b", "#333333", "#a3123f", "#2c3e50", "#4a5d23",
    "#1a56c4", "#b03a1e", "#006d5b", "#6b3fa0",
)  # fmt: skip
_PAPERS = ("#ffffff", "#ffffff", "#ffffff", "#fdfbf5", "#f7f3e8", "#f4f6f8", "#fffdf0", "#f1f1ee")
_INKS = ("#000000", "#111111", "#1b1b2f", "#2b2b2b", "#3a2f28")
_OLD_FIGURES = {"EB Garamond 12", "Vollkorn"}  # whose 0 is an o where lining figures cannot be asked for: in charts
_PENS = ("#1a2f8a", "#16213e", "#000000", "#27408b", "#3d3d3d")


@dataclass(frozen=True)
class Fonts:
    """The families of one document."""

    body: Family
    head: Family
    hand: Family


def chart_families(families: Sequence[Family]) -> tuple[Family, ...]:
    """Those whose figures are plain by default; all where none is."""
    return tuple(f for f in families if f.name not in _OLD_FIGURES) or tuple(families)


def choose_fonts(w: Vocabulary, families: Sequence[Family], mono: bool = False, display: bool = False) -> Fonts:
    """Families of one part: running text, headings, handwriting; mono prefers typewriters, display allows scripts."""
    wanted: list[Category] = ["sans", "sans", "sans", "serif", "serif", "mono"]
    if mono:
        wanted = ["mono", "mono", "sans"]
    elif display:
        wanted = ["sans", "sans", "serif", "hand"]
    body = _of(w, families, w.pick(wanted))
    head = body if w.chance(0.5) else _of(w, families, w.pick(["sans", "serif"]))
    return Fonts(body, head, _of(w, families, "hand"))


def draw_style(
    w: Vocabulary, shape: Shape, fonts: Fonts, icons: Mapping[str, str], shown_icons: Sequence[str], room: float
) -> dict[str, Any]:
    """Everything that a layout reads under `style`; lengths in points.

    Args:
        room: the page's longer side at most, in ems of its text. Where little fits, pages are wide, dense and no longer
            than what is on them.
    """
    tight = w.amount < _TIGHT
    accent = w.pick(_ACCENTS)
    size = round(float(w.rng.uniform(*shape.size)), 1)
    width = float(shape.width[1] if tight else w.between(*shape.width) * w.amount**0.5)
    width = round(min(width, room * size * 0.98))
    tall = None if shape.tall is None or tight or w.chance(0.4) else float(w.rng.uniform(*shape.tall))
    height = None if tall is None else round(width * tall)
    margin = round(width * (0.04 if tight else float(w.rng.uniform(0.04, 0.1))))
    leading = round(float(w.rng.uniform(0.5, 0.6 if tight else 0.85)), 2)
    paper = w.pick(_PAPERS)
    drawn = [coloured(icons, name, accent) for name in shown_icons] if all(n in icons for n in shown_icons) else []
    return {
        "width": width, "height": height, "margin": margin, "size": size,
        "leading": leading, "font": fonts.body.name, "head": fonts.head.name,
        "hand": fonts.hand.name, "accent": accent, "soft": _tint(accent, w.pick((0.86, 0.9, 0.93))),
        "ink": w.pick(_INKS),
        "paper": paper, "pen": w.pick(_PENS), "icons": drawn, "r": [round(float(x), 4) for x in w.rng.random(8)],
    }  # fmt: skip


def _of(w: Vocabulary, families: Sequence[Family], category: Category) -> Family:
    """One of that category, or any where the part has none."""
    return w.pick([f for f in families if f.category == category] or list(families))


def _tint(colour: str, share: float) -> str:
    """The colour mixed with so much white."""
    parts = (int(colour[n : n + 2], 16) for n in (1, 3, 5))
    return "#" + "".join(f"{round(p + (255 - p) * share):02x}" for p in parts)
