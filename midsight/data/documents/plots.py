"""Charts by matplotlib, and the places of their words and marks from its artists."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patheffects import withStroke
from matplotlib.text import Text

from midsight.data.documents.kinds.charts import COLOURS, Chart
from midsight.data.documents.record import Box, Record
from midsight.data.documents.sheet import Sheet, UnfitError, Word, check_words
from midsight.data.documents.style import Fonts
from midsight.data.documents.vocabulary import Vocabulary

_DPI = 100.0
_BOTH: Literal["both"] = "both"


@dataclass(frozen=True)
class _Look:
    """A chart layout."""

    paper: str = "#ffffff"
    panel: str = "#ffffff"
    ink: str = "#1a1a1a"
    grid: Literal["values", "both", "none"] = "values"
    dashes: str = "-"
    spines: tuple[str, ...] = ("left", "bottom")
    title: Literal["left", "center", "right"] = "center"
    legend: Literal["upper left", "below", "right"] = "below"
    width: float = 0.7  # of the bars
    edge: float = 0.0
    marker: str = "o"
    bold: bool = True


_LOOKS: dict[str, _Look] = {
    "plain": _Look(),
    "grid": _Look(grid="both", spines=("left", "bottom", "top", "right"), title="left", width=0.6, marker="s"),
    "boxed": _Look(dashes="--", spines=("left", "bottom", "top", "right"), edge=1.0, legend="right", marker="D",
        bold=False),
    "dark": _Look("#20242c", "#2a2f39", "#f2f2f2", dashes=":", title="left", marker="o"),
    "report": _Look("#ffffff", "#ffffff", "#333333", spines=("bottom",), title="left", legend="right", width=0.5,
        marker="^"),
    "soft": _Look("#f5f2ea", "#f5f2ea", "#3b3630", dashes=":", spines=(), legend="below", width=0.8, marker="o"),
    "paper": _Look("#fbfbf8", "#e9edf2", "#222222", grid="both", spines=(), title="right", legend="right", marker="v"),
    "bold": _Look("#ffffff", "#ffffff", "#000000", dashes="-.", title="center", edge=1.5, width=0.85, marker="s"),
}  # fmt: skip


def plot(w: Vocabulary, record: Record, layout: str, fonts: Fonts, sides: tuple[int, int], min_text: float) -> Sheet:
    """One chart.

    Args:
        sides: shortest and longest longer side of the picture, pixels.
        min_text: smallest em, pixels.

    Raises:
        UnfitError: words lie over each other or leave the picture.
    """
    chart: Chart = record.data["chart"]
    look = _LOOKS[layout]
    long = w.between(*sides)
    ratio = float(w.rng.uniform(0.55, 1.0)) if chart.type != "pie" else float(w.rng.uniform(0.65, 1.0))
    width, height = (long, round(long * ratio)) if w.chance(0.8) else (round(long * max(ratio, 0.7)), long)
    em = max(min_text, min(min(width, height) * float(w.rng.uniform(0.022, 0.04)), 30.0))
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor=look.paper)
    pad = em * float(w.rng.uniform(0.5, 2.0)) / _DPI
    figure.set_layout_engine("constrained", w_pad=pad, h_pad=pad)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot(facecolor=look.panel)
    artists = _Artists(axes, record, look, fonts, em, w)
    artists.draw(chart)
    canvas.draw()
    artists.turn_crowded_labels(canvas)
    words, straight, places = _read(canvas, artists, height)
    check_words(straight, width, height)
    pixels = np.asarray(canvas.buffer_rgba())[..., :3].copy()  # H, W, 3
    return Sheet(pixels, tuple(words), places)


class _Artists:
    """Draws a chart and keeps which artist shows which field."""

    def __init__(self, axes: Axes, record: Record, look: _Look, fonts: Fonts, em: float, w: Vocabulary) -> None:
        self.axes, self.fields, self.look, self.w = axes, record.fields, look, w
        size = em * 72 / _DPI
        self.plain = FontProperties(fname=str(fonts.body.regular), size=size)
        self.head = FontProperties(fname=str(fonts.head.bold if look.bold else fonts.head.regular), size=size * 1.35)
        self.em = em
        self.texts: dict[str, Text] = {}
        self.marks: dict[str, Any] = {}  # field -> patch, or the point (x, y) in data coordinates
        self.ticks: list[Text] = []

    def draw(self, chart: Chart) -> None:
        self.texts["title"] = self.axes.set_title(
            self.fields["title"], loc=self.look.title, fontproperties=self.head, color=self.look.ink, pad=self.em * 0.6
        )
        if chart.type == "pie":
            self._pie(chart)
            return
        if chart.type in ("line", "lines"):
            self._lines(chart)
        elif chart.type in ("scatter", "points"):
            self._points(chart)
        else:
            self._bars(chart)
        self._frame(chart)
        if len(chart.series) > 1:
            self._legend(chart)

    def _bars(self, chart: Chart) -> None:
        lying, stacked = chart.type == "lying_bar", chart.type == "stacked_bar"
        count = len(chart.series)
        width = self.look.width if stacked else self.look.width / count
        below = np.zeros(len(chart.categories))
        for s, row in enumerate(chart.values):
            places = np.arange(len(row)) + (0 if stacked else (s - (count - 1) / 2) * width)
            style: dict[str, Any] = {
                "color": COLOURS[chart.colours[s]],
                "edgecolor": self.look.ink,
                "linewidth": self.look.edge,
            }
            if lying:
                bars = self.axes.barh(places, row, height=width, **style)
            else:
                bars = self.axes.bar(places, row, width=width, bottom=below if stacked else None, **style)
            if stacked:
                below = below + np.array(row)
            self.marks |= {f"mark.{s}.{n}": bar for n, bar in enumerate(bars)}
            if chart.labelled:
                texts = [self.fields[f"value.{s}.{n}"] for n in range(len(row))]
                where = (
                    {"label_type": "center", "color": "white"} if stacked else {"padding": 2, "color": self.look.ink}
                )
                labels = self.axes.bar_label(bars, texts, fontproperties=self.plain, **where)
                self.texts |= {f"value.{s}.{n}": label for n, label in enumerate(labels)}
        self._name_categories(chart, lying)

    def _lines(self, chart: Chart) -> None:
        for s, row in enumerate(chart.values):
            colour = COLOURS[chart.colours[s]]
            self.axes.plot(
                range(len(row)),
                row,
                color=colour,
                marker=self.look.marker,
                markersize=self.em * 0.3,
                linewidth=self.em * 0.14,
            )
            self.marks |= {f"mark.{s}.{n}": (n, value) for n, value in enumerate(row)}
            if chart.labelled:
                for n, value in enumerate(row):
                    up = not (0 < n < len(row) - 1 and row[n - 1] > value < row[n + 1])
                    self.texts[f"value.{s}.{n}"] = self.axes.annotate(
                        self.fields[f"value.{s}.{n}"], (n, value), (0, self.em * (0.45 if up else -0.45)),
                        textcoords="offset pixels", ha="center", va="bottom" if up else "top",
                        fontproperties=self.plain, color=self.look.ink,
                        path_effects=[withStroke(linewidth=self.em * 0.3, foreground=self.look.panel)],  # over the line
                    )  # fmt: skip
        self.axes.set_xlim(-0.4, len(chart.categories) - 0.6)
        self._name_categories(chart, False)

    def _points(self, chart: Chart) -> None:
        colour = COLOURS[chart.colours[0]]
        self.axes.scatter(
            chart.across, chart.values[0], s=(self.em * 0.4) ** 2, color=colour, marker=self.look.marker, zorder=3
        )
        for n, (x, y) in enumerate(zip(chart.across, chart.values[0], strict=True)):
            self.marks[f"mark.0.{n}"] = (x, y)
            if chart.categories:
                self.texts[f"category.{n}"] = self.axes.annotate(
                    chart.categories[n], (x, y), (self.em * 0.5, self.em * 0.35), textcoords="offset pixels",
                    fontproperties=self.plain, color=self.look.ink,
                )  # fmt: skip
        self.axes.set_xlim(0, chart.top)
        self.axes.set_xticks(np.arange(0, chart.top + chart.step / 2, chart.step))
        self._name_ticks("x")
        self.texts["across"] = self.axes.set_xlabel(
            self.fields["across"], fontproperties=self.plain, color=self.look.ink
        )

    def _pie(self, chart: Chart) -> None:
        colours = [COLOURS[name] for name in chart.colours]
        hole = self.w.chance(0.4)
        wedges = self.axes.pie(
            chart.values[0], colors=colours, startangle=self.w.between(0, 359), counterclock=self.w.chance(0.5),
            wedgeprops={"width": 0.55 if hole else 1.0, "edgecolor": self.look.paper, "linewidth": 1 + self.look.edge},
        )[0]  # fmt: skip
        for n, wedge in enumerate(wedges):
            self.marks[f"mark.0.{n}"] = wedge
            angle = np.deg2rad((wedge.theta1 + wedge.theta2) / 2)
            x, y = float(np.cos(angle)), float(np.sin(angle))
            where = "left" if x > 0 else "right"
            style: dict[str, Any] = {"fontproperties": self.plain, "color": self.look.ink, "va": "center"}
            middle = 0.72 if hole else 0.66
            self.texts[f"value.0.{n}"] = self.axes.text(
                middle * x, middle * y, self.fields[f"value.0.{n}"], ha="center",
                **{**style, "color": "black" if chart.colours[n] in ("yellow", "pink", "orange") else "white"},
            )  # fmt: skip
            self.texts[f"category.{n}"] = self.axes.text(1.08 * x, 1.12 * y, chart.categories[n], ha=where, **style)

    def _name_categories(self, chart: Chart, lying: bool) -> None:
        axis = self.axes.yaxis if lying else self.axes.xaxis
        axis.set_ticks(range(len(chart.categories)), chart.categories)
        for n, label in enumerate(axis.get_ticklabels()):
            label.set(fontproperties=self.plain, color=self.look.ink)
            self.texts[f"category.{n}"] = label
        if lying:
            self.axes.invert_yaxis()

    def _name_ticks(self, axis: Literal["x", "y"]) -> None:
        """Numbers along an axis of values."""
        for label in self.axes.get_xticklabels() if axis == "x" else self.axes.get_yticklabels():
            label.set(fontproperties=self.plain, color=self.look.ink)
            self.ticks.append(label)

    def _frame(self, chart: Chart) -> None:
        lying = chart.type == "lying_bar"
        steps = np.arange(0, chart.top + chart.step / 2, chart.step)
        room = chart.top * (1.08 if chart.labelled else 1.02)
        named: Literal["x", "y"] = "x" if lying else "y"
        if lying:
            self.axes.set(xlim=(0, room * 1.04), xticks=steps)
            self.texts["unit"] = self.axes.set_xlabel(
                self.fields["unit"], fontproperties=self.plain, color=self.look.ink
            )
        else:
            self.axes.set(ylim=(0, room), yticks=steps)
            self.texts["unit"] = self.axes.set_ylabel(
                self.fields["unit"], fontproperties=self.plain, color=self.look.ink
            )
        self._name_ticks(named)
        both = self.look.grid == "both" or chart.type in ("scatter", "points")
        if self.look.grid != "none" or not chart.labelled:
            self.axes.grid(axis=_BOTH if both else named, color=self.look.ink, alpha=0.25, linestyle=self.look.dashes)
        self.axes.set_axisbelow(True)
        self.axes.tick_params(colors=self.look.ink, length=self.em * 0.25)
        for side, spine in self.axes.spines.items():
            spine.set_visible(side in self.look.spines)
            spine.set_color(self.look.ink)

    def _legend(self, chart: Chart) -> None:
        handles = [self.marks[f"mark.{s}.0"] for s in range(len(chart.series))]
        if chart.type == "lines":
            handles = list(self.axes.get_lines())
        place: dict[str, Any] = {"loc": "outside lower center", "ncols": len(chart.series)}
        if self.look.legend == "right":
            place = {"loc": "outside right center"}
        figure = self.axes.get_figure()
        assert figure is not None
        legend = figure.legend(
            handles, chart.series, prop=self.plain, labelcolor=self.look.ink, facecolor=self.look.panel,
            frameon=self.look.edge > 0, **place,
        )  # fmt: skip
        self.texts |= {f"series.{s}": text for s, text in enumerate(legend.get_texts())}

    def turn_crowded_labels(self, canvas: FigureCanvasAgg) -> None:
        """Labels below the axis stand upright or aslant where they would touch; lettered points are left alone."""
        labels = list(self.axes.get_xticklabels())
        boxes = sorted((label.get_window_extent(canvas.get_renderer()).extents for label in labels), key=lambda b: b[0])
        crowded = any(b[0] - a[2] < self.em * 0.4 for a, b in zip(boxes, boxes[1:], strict=False))
        if crowded:
            angle = self.w.pick((90, 45, 30))
            for label in labels:
                label.set(
                    rotation=angle,
                    ha="center" if angle == 90 else "right",
                    rotation_mode="default" if angle == 90 else "anchor",
                )
        canvas.draw()


def _read(
    canvas: FigureCanvasAgg, artists: _Artists, height: int
) -> tuple[list[Word], list[Word], dict[str, tuple[Box, ...]]]:
    """Words of every text that is shown, those that do not stand aslant, and the places of fields; y downwards.

    Raises:
        UnfitError: a text leaves the picture.
    """
    words: list[Word] = []
    straight: list[Word] = []  # boxes of what stands aslant overlap though the letters do not touch
    places: dict[str, tuple[Box, ...]] = {}
    for text in (*artists.texts.values(), *artists.ticks):
        found = list(_words_of(canvas, text, height))
        words += found
        if text.get_rotation() % 90 == 0:
            straight += found
        elif any(word.box[0] < 0 or word.box[3] > height for word in found):
            raise UnfitError(f"{text.get_text()!r} leaves the picture")
    for name, text in artists.texts.items():
        places[name] = (_box(text.get_window_extent(canvas.get_renderer()).extents, height),)
    radius = max(3.0, artists.em * 0.35)
    for name, mark in artists.marks.items():
        if isinstance(mark, tuple):
            x, y = (float(v) for v in artists.axes.transData.transform(mark))
            places[name] = ((x - radius, height - y - radius, x + radius, height - y + radius),)
        else:
            places[name] = (_box(mark.get_window_extent(canvas.get_renderer()).extents, height),)
    return words, straight, places


def _words_of(canvas: FigureCanvasAgg, text: Text, height: int) -> Iterator[Word]:
    """Words of one text: exact along the line by the widths of what precedes them, as tall as the line.

    A text that stands aslant is one word.
    """
    shown = text.get_text()
    if not shown or not text.get_visible():
        return
    box = _box(text.get_window_extent(canvas.get_renderer()).extents, height)
    angle = text.get_rotation() % 360
    if angle not in (0, 90) or len(shown.split()) == 1:
        yield Word(shown.strip(), box)
        return
    whole = _width(canvas, text, shown)
    position = 0
    for part in shown.split():
        begin = shown.index(part, position)
        position = begin + len(part)
        a, b = _width(canvas, text, shown[:begin]) / whole, _width(canvas, text, shown[:position]) / whole
        x0, y0, x1, y1 = box
        along = (x0 + a * (x1 - x0), y0, x0 + b * (x1 - x0), y1)
        yield Word(part, along if angle == 0 else (x0, y1 - b * (y1 - y0), x1, y1 - a * (y1 - y0)))


def _width(canvas: FigureCanvasAgg, text: Text, shown: str) -> float:
    return float(canvas.get_renderer().get_text_width_height_descent(shown, text.get_fontproperties(), False)[0])


def _box(extents: Sequence[float], height: int) -> Box:
    x0, y0, x1, y1 = (float(v) for v in extents)
    return x0, height - y1, x1, height - y0
