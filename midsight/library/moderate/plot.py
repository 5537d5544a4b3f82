"""Precision-recall curves of a calibration as a picture."""

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from midsight.errors import MissingDependencyError
from midsight.library.moderate.calibrate import Fit, curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

_COLUMNS, _SIDE = 3, 3.6  # of the grid; inches of one plot
_INK, _LINE, _POINT = "#22302f", "#2f6f6a", "#b3472d"


def check_matplotlib() -> None:
    """
    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise MissingDependencyError(
            "the plot needs matplotlib: pip install 'midsight[search]', or do without it by --no-plot"
        ) from None


def plot_curves(fits: Sequence[Fit]) -> bytes:
    """A PNG: for each fit its curve, and the threshold's point with the 95 % intervals to be expected of new files.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    check_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(_COLUMNS, len(fits))
    rows = math.ceil(len(fits) / columns)
    figure = Figure(figsize=(_SIDE * columns, (_SIDE + 0.35) * rows), layout="constrained")
    FigureCanvasAgg(figure)
    for number, found in enumerate(fits):
        _draw(figure.add_subplot(rows, columns, number + 1), found)
    figure.legend(
        handles=_legend(), loc="outside lower center", ncols=min(3, 2 * columns - 1), fontsize=8.5, frameon=False
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()


def _legend() -> list["Line2D"]:
    from matplotlib.lines import Line2D

    return [
        Line2D(
            [], [], color=_LINE, marker="o", markersize=8, fillstyle="none", label="labelled files, and the threshold"
        ),
        Line2D([], [], color=_POINT, marker="o", markersize=5, label="expected of new files, 95 % intervals"),
        Line2D([], [], color=_INK, alpha=0.35, linewidth=1, linestyle=":", label="everything flagged"),
    ]


def _draw(axes: "Axes", found: Fit) -> None:
    line = curve(found.scores, found.labels)
    recall, precision = [0.0, *line.recall], [float(line.precision[0]), *line.precision]
    axes.plot(recall, precision, color=_LINE, linewidth=1.8)
    axes.axhline(found.labels.mean(), color=_INK, alpha=0.35, linewidth=1, linestyle=":")
    if found.threshold is not None and found.new_precision.total:
        x, y = found.new_recall.value, found.new_precision.value
        (left, right), (low, high) = found.new_recall.interval, found.new_precision.interval
        axes.errorbar(x, y, xerr=[[x - left], [right - x]], yerr=[[y - low], [high - y]], fmt="none", ecolor=_POINT,
                      elinewidth=1.2, capsize=3)  # fmt: skip
        axes.plot(x, y, "o", color=_POINT, markersize=5)
    if found.threshold is not None:
        axes.plot(found.recall.value, found.precision.value, "o", color=_LINE, markersize=8, fillstyle="none")
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xlabel="recall", ylabel="precision")
    at = "not reached" if found.threshold is None else f"threshold {found.threshold:g}"
    title = f"{found.category.replace('$', chr(92) + '$')}\n"
    axes.set_title(title, fontsize=11, color=_INK)
    axes.text(0.5, 1.03, f"{found.target}: {at}", transform=axes.transAxes, ha="center", fontsize=8.5, color=_INK)
    axes.grid(alpha=0.2)
    axes.spines[["top", "right"]].set_visible(False)
