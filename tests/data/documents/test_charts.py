"""Answers about charts, worked out again from the numbers by reading the questions; marks as tall as the numbers."""

import re

import numpy as np
import pytest

from midsight.data.documents.fonts import Family
from midsight.data.documents.kinds import charts
from midsight.data.documents.kinds.charts import Chart
from midsight.data.documents.layouts import LAYOUTS
from midsight.data.documents.make import Stock
from midsight.data.documents.plots import plot
from midsight.data.documents.record import Question, Record
from midsight.data.documents.sheet import Sheet, UnfitError
from midsight.data.documents.style import Fonts
from midsight.data.documents.vocabulary import Vocabulary

NAME = r"([\w' ]+?)"


def _drawn(count: int) -> list[tuple[Record, Chart]]:
    records = [charts.draw(Vocabulary((3, n)), "plain") for n in range(count)]
    return [(record, record.data["chart"]) for record in records]


def _row(chart: Chart, question: Question) -> dict[str, float]:
    """Value by category, of the series that the question names."""
    named = [s for s, name in enumerate(chart.series) if name and f" of {name}" in question.text]
    assert len(chart.series) == 1 or len(named) == 1, question.text
    return dict(zip(chart.categories, chart.values[named[0] if named else 0], strict=True))


def _expected(chart: Chart, question: Question) -> str | None:
    """The answer by the question's words alone; None for a question that is of another kind."""
    text = question.text
    if found := re.search(rf"sum of the values.* for {NAME} and {NAME}\?", text):
        row = _row(chart, question)
        return f"{row[found[1]] + row[found[2]]:g}"
    if found := re.search(rf"difference between the values.* for {NAME} and {NAME}\?", text):
        row = _row(chart, question)
        return f"{abs(row[found[1]] - row[found[2]]):g}"
    if found := re.search(rf"Is the value.* for {NAME} higher than for {NAME}\?", text):
        row = _row(chart, question)
        return "Yes" if row[found[1]] > row[found[2]] else "No"
    if found := re.search(r"For how many categories is the value.* above ([\d.]+)\?", text):
        return str(sum(value > float(found[1]) for value in _row(chart, question).values()))
    if found := re.search(
        rf"(?:What is the value|Read the value|How high is the value).* (?:for|at) {NAME}[?.]$", text
    ):
        return f"{_row(chart, question)[found[1]]:g}"
    if found := re.search(r"(?:What is the (highest|lowest) value)", text):
        return f"{(max if found[1] == 'highest' else min)(_row(chart, question).values()):g}"
    if found := re.search(r"(highest|lowest)", text) if not text.startswith("Which series") else None:
        row = _row(chart, question)
        return (max if found[1] == "highest" else min)(row, key=lambda name: row[name])
    return None


def test_answers_follow_from_the_numbers() -> None:
    checked: dict[str, int] = {}
    for record, chart in _drawn(150):
        if chart.type in ("points", "scatter"):
            continue
        for question in record.questions:
            expected = _expected(chart, question)
            if expected is not None:
                assert expected in question.answers, (question, chart)
                checked[question.kind] = checked.get(question.kind, 0) + 1
    assert min(checked[kind] for kind in ("sum", "difference", "yes_no", "count", "lookup", "extreme")) > 20


def test_lettered_points_and_trends() -> None:
    seen = set()
    for record, chart in _drawn(150):
        for question in record.questions:
            if found := re.search(r"What is the (vertical|horizontal) value of point (\w)\?", question.text):
                values = chart.values[0] if found[1] == "vertical" else chart.across
                assert f"{values[chart.categories.index(found[2])]:g}" == question.answers[0]
                seen.add("value")
            if chart.type == "scatter" and question.kind == "trend":
                slope = np.polyfit(chart.across, chart.values[0], 1)[0]
                assert question.answers[0] == ("rising" if slope > 0 else "falling")
                seen.add("trend")
    assert seen == {"value", "trend"}


def test_what_is_not_printed_lies_on_the_grid_or_half_way() -> None:
    for record, chart in _drawn(150):
        if chart.type == "pie":
            assert sum(chart.values[0]) == 100
            assert len(set(chart.values[0])) == len(chart.categories)
        elif chart.labelled:
            assert "value.0.0" in record.fields
        elif chart.type != "scatter":
            for values in (*chart.values, chart.across):
                assert all((2 * value / chart.step).is_integer() for value in values)


def _fonts(family: Family) -> Fonts:
    return Fonts(family, family, family)


def _plotted(stock: Stock, types: set[str]) -> tuple[Record, Chart, Sheet]:
    for n in range(200):
        w = Vocabulary((5, n), 0.7)
        record = charts.draw(w, "plain")
        if record.data["chart"].type in types:
            try:
                return record, record.data["chart"], plot(w, record, "plain", _fonts(stock.families[0]), (600, 900), 11)
            except UnfitError:
                continue
    raise AssertionError(f"none of {types}")


@pytest.mark.parametrize("kind", ["bar", "lying_bar"])
def test_bars_are_as_long_as_their_values(stock: Stock, kind: str) -> None:
    _, chart, sheet = _plotted(stock, {kind})
    along = 0 if kind == "lying_bar" else 1
    boxes = [sheet.places[f"mark.0.{n}"][0] for n in range(len(chart.categories))]
    lengths = np.array([box[along + 2] - box[along] for box in boxes])
    ratios = lengths / np.array(chart.values[0])
    assert np.ptp(ratios) < 0.02 * ratios.mean()


def test_bars_have_their_colour_and_labels_stand_beside_them(stock: Stock) -> None:
    _, chart, sheet = _plotted(stock, {"bar"})
    colour = np.array([int(charts.COLOURS[chart.colours[0]][n : n + 2], 16) for n in (1, 3, 5)])
    for n in range(len(chart.categories)):
        x0, y0, x1, y1 = sheet.places[f"mark.0.{n}"][0]
        middle = sheet.pixels[int((y0 + y1) / 2), int((x0 + x1) / 2)]
        assert np.abs(middle.astype(int) - colour).max() <= 3
        label = sheet.places[f"category.{n}"][0]
        assert label[1] > y1 - 2


def test_points_of_lines_are_where_their_values_are(stock: Stock) -> None:
    _, chart, sheet = _plotted(stock, {"line"})
    middles = [sheet.places[f"mark.0.{n}"][0] for n in range(len(chart.categories))]
    ys = np.array([(box[1] + box[3]) / 2 for box in middles])
    slope, offset = np.polyfit(chart.values[0], ys, 1)
    assert slope < 0
    assert np.abs(slope * np.array(chart.values[0]) + offset - ys).max() < 1


def test_every_look_is_drawn_in_every_layout(stock: Stock) -> None:
    w = Vocabulary((11, 1), 0.6)
    record = charts.draw(w, "plain")
    pictures = {}
    for layout in LAYOUTS["chart"]:
        sheet = plot(Vocabulary((11, 2)), record, layout, _fonts(stock.families[0]), (600, 600), 11)
        pictures[layout] = sheet.pixels.tobytes()
    assert len(set(pictures.values())) == len(LAYOUTS["chart"])
