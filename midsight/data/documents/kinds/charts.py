"""Charts: bars, grouped and lying bars, lines, pies, scatter plots, with what can be read off them.

Values are printed at the marks, or lie on the grid or half way between its lines, so that they can be read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from midsight.data.documents import lists
from midsight.data.documents.kinds.wording import asked, counted, number_forms, only_extreme, yes_no
from midsight.data.documents.record import Question, Record, looked_up
from midsight.data.documents.vocabulary import Vocabulary

ChartType = Literal["bar", "lying_bar", "grouped_bar", "stacked_bar", "line", "lines", "pie", "scatter", "points"]
_TYPES: tuple[ChartType, ...] = (
    "bar", "bar", "lying_bar", "lying_bar", "grouped_bar", "stacked_bar", "line", "lines", "pie", "scatter", "points",
)  # fmt: skip
_IN_ORDER = (lists.MONTHS, lists.WEEKDAYS, lists.QUARTERS)
COLOURS: dict[str, str] = {
    "blue": "#2f5fb3", "orange": "#e8832a", "green": "#3c9a4b", "red": "#c83737", "purple": "#7d4fa8",
    "grey": "#808080",
    "yellow": "#e6c229", "brown": "#8a5a3b", "pink": "#e58fb4", "black": "#222222",
}  # fmt: skip


@dataclass(frozen=True)
class Chart:
    """The numbers of a chart, and how they are shown."""

    type: ChartType
    unit: str  # axis label of the values
    categories: tuple[str, ...]
    series: tuple[str, ...]  # one unnamed where there is only one
    values: tuple[tuple[float, ...], ...]  # series, categories
    colours: tuple[str, ...]  # names in COLOURS: of the series, or of the slices of a pie
    labelled: bool  # values printed at the marks
    step: float  # between grid lines
    top: float  # of the value axis
    across: tuple[float, ...] = ()  # scatter and points: x of each


def draw(w: Vocabulary, layout: str) -> Record:
    """A chart of random type; the layout is its style."""
    kind = w.pick(_TYPES)
    if kind in ("scatter", "points"):
        return _scatter(w, kind)
    title, unit, pool, low, high = w.pick(lists.TOPICS)
    if kind in ("line", "lines"):
        title, unit, pool, low, high = w.pick([t for t in lists.TOPICS if t[2] in _IN_ORDER])
    if pool is lists.MONTHS and kind != "pie" and w.chance(0.4):
        start = w.between(1995, 2015)
        pool, title = (
            tuple(str(start + n) for n in range(12)),
            title.replace("by month", "by year").replace("per month", "per year"),
        )
    categories = _categories(w, pool, kind)
    number = w.between(2, 3) if kind in ("grouped_bar", "stacked_bar", "lines") else 1
    series = tuple(w.some(w.pick((("Men", "Women", "Children"), ("2021", "2022", "2023"), ("Plan", "Actual",
        "Forecast"),
                                  ("Team A", "Team B", "Team C"))), number)) if number > 1 else ("",)  # fmt: skip
    series = tuple(sorted(series)) if series[0].isdigit() else series
    if kind == "pie":
        return _pie(w, title, categories)
    step, top = _axis(high if kind != "stacked_bar" else high * number)
    labelled = kind == "stacked_bar" or (kind != "lines" and w.chance(0.55))
    least = 0.3 if kind == "stacked_bar" else 0.08  # a part must hold its number
    values = tuple(_values(w, len(categories), high, step, labelled, least) for _ in series)
    colours = tuple(w.some(list(COLOURS)[:6], number))
    chart = Chart(kind, unit, categories, series, values, colours, labelled, step, top)
    return _record(w, title, chart)


def _categories(w: Vocabulary, pool: Sequence[str], kind: ChartType) -> tuple[str, ...]:
    most = {"pie": 6, "grouped_bar": 5, "stacked_bar": 5}.get(kind, 9)
    count = min(len(pool), w.many(3, most))
    if pool in _IN_ORDER or pool[0].isdigit():
        first = w.between(0, len(pool) - count)
        return tuple(pool[first : first + count])
    return tuple(w.some(pool, count))


def _axis(high: float) -> tuple[float, float]:
    """Distance of the grid lines and the top of the axis, for 4 to 8 lines."""
    for step in (1, 2, 5, 10, 20, 50, 100, 200, 250, 500, 1000, 2000):
        lines = -(-high // step)
        if lines <= 8:
            return float(step), float(step * lines)
    raise AssertionError(f"no axis for {high}")


def _values(w: Vocabulary, count: int, high: float, step: float, labelled: bool, least: float) -> tuple[float, ...]:
    """Printed values are any whole number; others are on the grid or half way, where half a step is whole or a half."""
    if labelled:
        return tuple(float(w.between(max(1, round(high * least)), round(high))) for _ in range(count))
    half = step / 2
    return tuple(half * w.between(1, int(high / half)) for _ in range(count))


def _pie(w: Vocabulary, title: str, categories: tuple[str, ...]) -> Record:
    """Whole percentages that add up to 100, no two the same, none below 5."""
    count = len(categories)
    while True:
        cuts = sorted(w.some(range(5, 96), count - 1))
        shares = [b - a for a, b in zip([0, *cuts], [*cuts, 100], strict=True)]
        if min(shares) >= 5 and len(set(shares)) == count:
            break
    colours = tuple(w.some(list(COLOURS)[:9], count))
    chart = Chart("pie", "Percent", categories, ("",), (tuple(map(float, shares)),), colours, True, 0, 0)
    return _record(w, title.replace("by month", "by share"), chart)


def _scatter(w: Vocabulary, kind: ChartType) -> Record:
    """A cloud with a clear direction, or lettered points on the grid."""
    across, up = w.some(("Age (years)", "Speed (km/h)", "Price", "Weight (kg)", "Height (cm)", "Temperature (°C)",
                         "Distance (km)", "Time (min)"), 2)  # fmt: skip
    step, top = _axis(w.pick((10, 20, 50, 100)))
    half = step / 2
    lines = int(top / half)
    if kind == "points":
        spots = w.some([(x, y) for x in range(1, lines) for y in range(1, lines)], w.between(3, 7))
        spots = [s for n, s in enumerate(spots) if all(abs(s[0] - o[0]) + abs(s[1] - o[1]) > 1 for o in spots[:n])]
        letters = tuple("ABCDEFG"[: len(spots)])
        xs, ys = tuple(half * x for x, _ in spots), tuple(half * y for _, y in spots)
    else:
        rising, count = w.chance(0.5), w.between(12, 30)
        xs = tuple(round(top * (0.05 + 0.9 * n / count), 2) for n in range(count))
        line = (top * (0.1 + 0.8 * (n if rising else count - 1 - n) / (count - 1)) for n in range(count))
        ys = tuple(round(float(y + w.rng.normal(0, 0.04 * top)), 2) for y in line)
        letters = ()
    chart = Chart(kind, up, letters, ("",), (ys,), (w.pick(list(COLOURS)[:6]),), False, step, top, xs)
    return _record(w, f"{up.split(' (')[0]} and {across.split(' (')[0].lower()}", chart, across)


def _record(w: Vocabulary, title: str, chart: Chart, across: str = "") -> Record:
    fields = {"title": title} | {f"category.{n}": name for n, name in enumerate(chart.categories)}
    if chart.type != "pie":
        fields["unit"] = chart.unit
    if across:
        fields["across"] = across
    if len(chart.series) > 1:
        fields |= {f"series.{s}": name for s, name in enumerate(chart.series)}
    if chart.labelled:
        end = "%" if chart.type == "pie" else ""
        fields |= {f"value.{s}.{n}": f"{v:g}{end}" for s, row in enumerate(chart.values) for n, v in enumerate(row)}
    questions = [
        *looked_up(fields, "title", [w.pick(("What is the title of the chart?", "What does the title say?"))], "read"),
        *looked_up(fields, "unit", [w.pick(("What does the axis of values say?", "How is the value axis labelled?"))
                                    if not across else "What is the label of the vertical axis?"], "read"),
        *looked_up(fields, "across", ["What is the label of the horizontal axis?"], "read"),
    ]  # fmt: skip
    if chart.type in ("scatter", "points"):
        questions += _about_points(w, chart)
    else:
        for s in range(len(chart.series)):
            questions += _about_series(w, chart, s)
        questions += _about_all(w, chart)
    names = {
        f"mark.0.{n}": f"{_mark(chart)} of {name}" for n, name in enumerate(chart.categories) if len(chart.series) == 1
    }
    return Record(fields, questions, {"chart": chart}, names | {"title": "the title"})


def _mark(chart: Chart) -> str:
    return {"line": "the point", "lines": "the point", "pie": "the slice", "points": "the point"}.get(
        chart.type, "the bar"
    )


def _about_series(w: Vocabulary, chart: Chart, s: int) -> list[Question]:
    values, names = chart.values[s], chart.categories
    of = f" of {chart.series[s]}" if chart.series[s] else ""
    end = "%" if chart.type == "pie" else ""
    marks = [
        (f"mark.{s}.{n}", f"category.{n}", *([f"value.{s}.{n}"] if chart.labelled else [])) for n in range(len(names))
    ]
    found = []
    for n in w.some(range(len(names)), 3):
        wordings = [f"What is the value{of} for {names[n]}?", f"Read the value{of} at {names[n]}.",
                    f"How high is the value{of} for {names[n]}?"]  # fmt: skip
        found.append(asked(w, wordings, _number(values[n], end), "lookup", marks[n]))
    for largest, word in ((True, "highest"), (False, "lowest")):
        best = only_extreme(values, largest)
        if best is None:
            continue
        wordings = [f"Where is the value{of} {word}?", f"Which category has the {word} value{of}?",
                    f"For which entry is the value{of} the {word}?"]  # fmt: skip
        found.append(asked(w, wordings, (names[best],), "extreme", marks[best]))
        wordings = [f"What is the {word} value{of}?"]
        found.append(asked(w, wordings, _number(values[best], end), "extreme", marks[best]))
    a, b = w.some(range(len(names)), 2)
    evidence = (*marks[a], *marks[b])
    total, gap = values[a] + values[b], abs(values[a] - values[b])
    found.append(
        asked(
            w,
            (f"What is the sum of the values{of} for {names[a]} and {names[b]}?",),
            _number(total, end),
            "sum",
            evidence,
        )
    )
    if gap:
        wordings = [f"What is the difference between the values{of} for {names[a]} and {names[b]}?"]
        found.append(asked(w, wordings, _number(gap, end), "difference", evidence))
        wordings = [f"Is the value{of} for {names[a]} higher than for {names[b]}?"]
        found.append(yes_no(w, wordings, values[a] > values[b], evidence))
    limit = chart.step * w.between(1, 6)
    if chart.type not in ("pie", "stacked_bar") and limit < chart.top and limit not in values:
        wordings = [f"For how many categories is the value{of} above {limit:g}?"]
        every = tuple(f"mark.{s}.{n}" for n in range(len(names)))
        found.append(asked(w, wordings, counted(sum(v > limit for v in values)), "count", every))
    if chart.type in ("line", "lines") and values[-1] != values[0]:
        wordings = [f"Does the line{of} end higher or lower than it begins?"]
        ends = (f"mark.{s}.0", f"mark.{s}.{len(names) - 1}")
        found.append(asked(w, wordings, ("higher" if values[-1] > values[0] else "lower",), "trend", ends))
    if chart.type in ("line", "lines"):
        n = w.between(0, len(names) - 2)
        if values[n] != values[n + 1]:
            wordings = [f"Does the value{of} rise or fall from {names[n]} to {names[n + 1]}?"]
            answer = ("rise", "rises") if values[n + 1] > values[n] else ("fall", "falls")
            found.append(asked(w, wordings, answer, "trend", (f"mark.{s}.{n}", f"mark.{s}.{n + 1}")))
    return found


def _about_all(w: Vocabulary, chart: Chart) -> list[Question]:
    names, every = chart.categories, tuple(f"category.{n}" for n in range(len(chart.categories)))
    what = "slices" if chart.type == "pie" else "categories"
    found = [asked(w, (f"How many {what} does the chart show?",), counted(len(names)), "count", every)]
    if chart.type == "pie":
        n = w.between(0, len(names) - 1)
        evidence = (f"mark.0.{n}", f"category.{n}")
        found.append(
            asked(w, (f"What is the colour of the slice of {names[n]}?",), (chart.colours[n],), "lookup", evidence)
        )
        found.append(asked(w, (f"What does the {chart.colours[n]} slice stand for?",), (names[n],), "lookup", evidence))
    if len(chart.series) == 1:
        return found
    series = tuple(f"series.{s}" for s in range(len(chart.series)))
    found.append(asked(w, ("How many entries does the legend have?",), counted(len(chart.series)), "count", series))
    s = w.between(0, len(chart.series) - 1)
    what = "line" if chart.type == "lines" else "bars"
    wordings = [f"Which colour stands for {chart.series[s]}?", f"In which colour is {chart.series[s]} drawn?"]
    found.append(asked(w, wordings, (chart.colours[s],), "lookup", (f"series.{s}",)))
    wordings = [f"What {'does' if what == 'line' else 'do'} the {chart.colours[s]} {what} stand for?"]
    found.append(asked(w, wordings, (chart.series[s],), "lookup", (f"series.{s}",)))
    n = w.between(0, len(names) - 1)
    column = [row[n] for row in chart.values]
    best = only_extreme(column, True)
    if best is not None:
        marks = tuple(f"mark.{s}.{n}" for s in range(len(chart.series)))
        wordings = [f"Which series has the highest value for {names[n]}?"]
        found.append(asked(w, wordings, (chart.series[best],), "extreme", (*marks, f"series.{best}", f"category.{n}")))
    return found


def _about_points(w: Vocabulary, chart: Chart) -> list[Question]:
    up, right = chart.values[0], chart.across
    if chart.type == "scatter":
        every = tuple(f"mark.0.{n}" for n in range(len(up)))
        rising = up[-1] + up[-2] + up[-3] > up[0] + up[1] + up[2]
        wordings = [
            "Do the points rise or fall from left to right?",
            "Is the trend from left to right rising or falling?",
        ]
        return [asked(w, wordings, ("rising", "rise") if rising else ("falling", "fall"), "trend", every),
                yes_no(w, ("Do larger values on the horizontal axis go with larger values on the vertical axis?",),
                    rising, every)]  # fmt: skip
    marks = [(f"mark.0.{n}", f"category.{n}") for n in range(len(up))]
    found = [asked(w, ("How many lettered points are there?",), counted(len(up)), "count", tuple(m[0] for m in marks))]
    for n in w.some(range(len(up)), 3):
        letter = chart.categories[n]
        found += [
            asked(w, (f"What is the vertical value of point {letter}?",), _number(up[n], ""), "lookup", marks[n]),
            asked(w, (f"What is the horizontal value of point {letter}?",), _number(right[n], ""), "lookup", marks[n]),
        ]
    for values, largest, wording in (
        (up, True, "Which point is the highest?"), (up, False, "Which point is the lowest?"),
        (right, True, "Which point is farthest to the right?"), (right, False, "Which point is farthest to the left?"),
    ):  # fmt: skip
        best = only_extreme(values, largest)
        if best is not None:
            found.append(asked(w, (wording,), (chart.categories[best],), "extreme", marks[best]))
    return found


def _number(value: float, unit: str) -> tuple[str, ...]:
    return number_forms(round(value, 2), unit)
