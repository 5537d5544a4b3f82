"""Tables: a title, named columns, one row for each thing; read by row and column, compared and counted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from midsight.data.documents import lists
from midsight.data.documents.kinds.wording import asked, counted, number_forms, only_extreme, yes_no
from midsight.data.documents.record import Question, Record, looked_up
from midsight.data.documents.vocabulary import Vocabulary, grouped


@dataclass(frozen=True)
class _Column:
    head: str
    asks: str  # how a question names it: "departure time"
    draw: Callable[[Vocabulary], float | str]
    unit: str = ""
    money: bool = False


@dataclass(frozen=True)
class _Topic:
    titles: tuple[str, ...]
    head: str  # of the rows' column
    thing: str  # what one row is
    rows: Callable[[Vocabulary, int], list[str]]
    columns: tuple[_Column, ...]


def _whole(low: int, high: int, step: int = 1) -> Callable[[Vocabulary], float]:
    return lambda w: step * w.between(low // step, high // step)


def _tenths(low: int, high: int) -> Callable[[Vocabulary], float]:
    return lambda w: w.between(low * 10, high * 10) / 10


def _from(options: Sequence[str]) -> Callable[[Vocabulary, int], list[str]]:
    return lambda w, count: w.some(options, count)


def _people(w: Vocabulary, count: int) -> list[str]:
    """Different names of which no two share a first or last name."""
    found: list[str] = []
    while len(found) < count:
        name = w.person()
        if not set(name.split()) & {word for other in found for word in other.split()}:
            found.append(name)
    return found


def _trains(w: Vocabulary, count: int) -> list[str]:
    return [f"{w.pick(('IC', 'RE', 'S'))} {number}" for number in w.some(range(101, 999), count)]


_GOODS = tuple(name for shop in ("grocery", "hardware", "office", "garden") for name, _, _ in lists.SHOPS[shop])
_TOPICS = (
    _Topic(("Timetable", "Departures", "Trains from {city}"), "Train", "train", _trains, (
        _Column("Departure", "departure time", lambda w: f"{w.between(5, 23):02d}:{w.between(0, 59):02d}"),
        _Column("Destination", "destination", lambda w: w.pick(lists.CITIES)),
        _Column("Platform", "platform", lambda w: f"{w.between(1, 14)}{w.pick(('', '', 'A', 'B'))}"),
        _Column("Stops", "number of stops", _whole(1, 19)), _Column("Minutes", "travel time in minutes", _whole(12,
            195)),
    )),
    _Topic(("League Table", "Final Standings", "Season {year}"), "Team", "team", _from([
        f"{city} {tail}" for city, tail in zip(lists.CITIES, ("FC", "United", "Rovers", "Town", "Athletic", "City",
            "SC",
                                                               "Rangers", "Wanderers"), strict=True)]), (
        _Column("Played", "number of games played", _whole(20, 38)), _Column("Won", "number of games won", _whole(1,
            19)),
        _Column("Goals", "number of goals", _whole(15, 88)), _Column("Points", "number of points", _whole(12, 92)),
    )),
    _Topic(("Price List", "Stock List", "Our Prices {year}"), "Article", "article", _from(_GOODS), (
        _Column("Price", "price", _whole(99, 9999), money=True), _Column("In stock", "number in stock", _whole(0, 240)),
        _Column("Order no.", "order number", lambda w: w.code("?-####")),
        _Column("Shelf", "shelf", lambda w: w.code("?#")),
    )),
    _Topic(("Staff Directory", "Telephone List", "Who Works Where"), "Name", "person", _people, (
        _Column("Department", "department", lambda w: w.pick(lists.DEPARTMENTS)),
        _Column("Extension", "extension", lambda w: w.code("####")), _Column("Room", "room", lambda w: w.code("?##")),
        _Column("Position", "position", lambda w: w.job()),
    )),
    _Topic(("Weather", "Weather on {weekday}", "Temperatures and Rain"), "City", "city", _from(lists.CITIES), (
        _Column("High (°C)", "highest temperature", _whole(15, 38)), _Column("Low (°C)", "lowest temperature",
            _whole(-4, 14)),
        _Column("Rain (mm)", "rainfall in millimetres", _tenths(0, 30)),
        _Column("Wind (km/h)", "wind speed", _whole(3, 80)),
        _Column("Sky", "sky", lambda w: w.pick(("sunny", "cloudy", "overcast", "foggy", "clear"))),
    )),
    _Topic(("Examination Results", "Marks {year}", "Class Results"), "Student", "student", _people, tuple(
        _Column(s, f"mark in {s}", _whole(20, 100)) for s in ("Maths", "Physics", "History", "Music", "English"))),
    _Topic(("Population and Area", "Countries at a Glance", "Facts about Countries"), "Country", "country",
           _from(lists.COUNTRIES), (
        _Column("Members", "number of members", _whole(1200, 98000)), _Column("Offices", "number of offices", _whole(1,
            60)),
        _Column("Share (%)", "share in percent", _tenths(1, 90)), _Column("Since", "year of joining", _whole(1950,
            2020)),
    )),
    _Topic(("Quarterly Report", "Results by Region", "Sales {year}"), "Region", "region", _from(lists.REGIONS), (
        _Column("Sales", "amount of sales", _whole(100000, 9900000, 1000), money=True),
        _Column("Orders", "number of orders", _whole(12, 980)), _Column("Returns", "number of returns", _whole(0, 70)),
        _Column("Growth (%)", "growth in percent", _tenths(-9, 24)), _Column("Manager", "manager",
            lambda w: w.person()),
    )),
    _Topic(("Nutrition Facts", "What Is Inside", "Values per 100 g"), "Food", "food", _from(lists.FRUITS + (
        "Rye bread", "Butter", "Rice", "Lentils", "Yogurt", "Almonds", "Salmon")), (
        _Column("Energy (kJ)", "energy in kilojoules", _whole(90, 2600)), _Column("Fat (g)", "fat in grams", _tenths(0,
            60)),
        _Column("Sugar (g)", "sugar in grams", _tenths(0, 40)), _Column("Protein (g)", "protein in grams", _tenths(0,
            30)),
    )),
    _Topic(("Courses", "Evening Classes", "Programme {year}"), "Course", "course",
        _from(lists.SUBJECTS + lists.SPORTS), (
        _Column("Day", "day", lambda w: w.pick(lists.WEEKDAYS)), _Column("Teacher", "teacher", lambda w: w.person()),
        _Column("Room", "room", lambda w: w.code("?##")), _Column("Fee", "fee", _whole(1000, 19900, 50), money=True),
        _Column("Places", "number of places", _whole(4, 40)),
    )),
)  # fmt: skip


def draw(w: Vocabulary, layout: str) -> Record:
    """A table of one topic: 3 to 11 rows, 2 to 4 columns beside the rows' names."""
    topic = w.pick(_TOPICS)
    rows = topic.rows(w, w.many(3, 11))
    columns = sorted(w.some(topic.columns, w.between(2, 4)), key=topic.columns.index)
    values = [[column.draw(w) for column in columns] for _ in rows]
    shown = [[_shown(w, c, v) for c, v in zip(columns, line, strict=True)] for line in values]
    title = w.pick(topic.titles).format(
        city=w.pick(lists.CITIES), year=w.between(2012, 2026), weekday=w.pick(lists.WEEKDAYS)
    )
    fields = {"title": title, "head.0": topic.head} | {f"head.{c}": col.head for c, col in enumerate(columns, start=1)}
    for r, name in enumerate(rows):
        fields |= {f"cell.{r}.0": name} | {f"cell.{r}.{c}": text for c, text in enumerate(shown[r], start=1)}
    fields["note"] = w.sentence()
    numeric = [not isinstance(column[0], str) for column in zip(*values, strict=True)]
    data = {"rows": len(rows), "columns": len(columns) + 1, "numeric": [False, *numeric]}
    questions = [
        *looked_up(fields, "title", [w.pick(("What is the title of the table?", "What does the heading say?"))],
            "read"),
        *_about_cells(w, topic, columns, rows, values, shown), *_about_shape(w, topic, columns, rows),
    ]  # fmt: skip
    for c, column in enumerate(columns, start=1):
        if numeric[c - 1]:
            questions += _about_numbers(w, topic, column, c, rows, [float(line[c - 1]) for line in values], shown)
    names = {f"cell.{r}.0": f'the row of "{name}"' for r, name in enumerate(rows)}
    names |= {f"head.{c}": f'the column head "{column.head}"' for c, column in enumerate(columns, start=1)}
    return Record(fields, questions, data, names | {"title": "the title"})


def _shown(w: Vocabulary, column: _Column, value: float | str) -> str:
    if isinstance(value, str):
        return value
    if column.money:
        return w.money(int(value))
    if value != int(value) or "Share" in column.head or "(g)" in column.head or "Growth" in column.head:
        return f"{value:.1f}"
    return grouped(int(value)) if value >= 10000 else str(int(value))


def _forms(w: Vocabulary, column: _Column, value: float, shown: str) -> tuple[str, ...]:
    if column.money:
        return (shown, *w.money.accepted(int(value)))
    return (shown, *number_forms(value))


def _about_cells(
    w: Vocabulary, topic: _Topic, columns: Sequence[_Column], rows: Sequence[str],
    values: Sequence[Sequence[float | str]], shown: Sequence[Sequence[str]],
) -> list[Question]:  # fmt: skip
    found = []
    for r in w.some(range(len(rows)), 4):
        c = w.between(1, len(columns))
        column, value = columns[c - 1], values[r][c - 1]
        answers = (shown[r][c - 1],) if isinstance(value, str) else _forms(w, column, value, shown[r][c - 1])
        wordings = [f"What is the {column.asks} of {rows[r]}?", f'What is in the column "{column.head}" for {rows[r]}?',
                    f'Read the entry in row "{rows[r]}", column "{column.head}".']  # fmt: skip
        found.append(asked(w, wordings, answers, "lookup", (f"cell.{r}.{c}", f"cell.{r}.0", f"head.{c}")))
        same = [line[c - 1] for line in shown].count(shown[r][c - 1])
        if same == 1:
            text = shown[r][c - 1]
            wordings = [f'Which {topic.thing} has "{text}" in the column "{column.head}"?']
            found.append(asked(w, wordings, (rows[r],), "lookup", (f"cell.{r}.0", f"cell.{r}.{c}")))
    return found


def _about_shape(w: Vocabulary, topic: _Topic, columns: Sequence[_Column], rows: Sequence[str]) -> list[Question]:
    cells = tuple(f"cell.{r}.0" for r in range(len(rows)))
    heads = tuple(f"head.{c}" for c in range(len(columns) + 1))
    wordings = [f"How many rows are there below the head of the table, one for each {topic.thing}?"]
    last, first = f"cell.{len(rows) - 1}.0", "cell.0.0"
    c = w.between(1, len(columns))
    return [
        asked(w, wordings, counted(len(rows)), "count", cells),
        asked(w, ("How many columns does the table have?",), counted(len(columns) + 1), "count", heads),
        asked(w, (f"Which {topic.thing} is listed first?",), (rows[0],), "read", (first,)),
        asked(w, (f"Which {topic.thing} is listed last?",), (rows[-1],), "read", (last,)),
        asked(w, (f"What is the head of column {c + 1}?",), (columns[c - 1].head,), "read", (f"head.{c}",)),
        asked(w, (f'Which entry of column "{topic.head}" stands right below "{rows[0]}"?',), (rows[1],), "next_line",
              ("cell.0.0", "cell.1.0")),
    ]  # fmt: skip


def _about_numbers(
    w: Vocabulary, topic: _Topic, column: _Column, c: int, rows: Sequence[str], values: Sequence[float],
    shown: Sequence[Sequence[str]],
) -> list[Question]:  # fmt: skip
    found = []
    for largest, word in ((True, "highest"), (False, "lowest")):
        best = only_extreme(values, largest)
        if best is not None:
            evidence = (f"cell.{best}.0", f"cell.{best}.{c}")
            wordings = [f'Which {topic.thing} has the {word} value in the column "{column.head}"?',
                        f'In which row is "{column.head}" the {word}?']  # fmt: skip
            found.append(asked(w, wordings, (rows[best],), "extreme", evidence))
            answers = _forms(w, column, values[best], shown[best][c - 1])
            found.append(asked(w, (f'What is the {word} value in the column "{column.head}"?',), answers, "extreme",
                               (f"cell.{best}.{c}",)))  # fmt: skip
    a, b = w.some(range(len(rows)), 2)
    evidence = (f"cell.{a}.{c}", f"cell.{b}.{c}")
    if values[a] != values[b]:
        wordings = [f'Is "{column.head}" of {rows[a]} higher than that of {rows[b]}?']
        found.append(yes_no(w, wordings, values[a] > values[b], evidence))
    if column.asks.startswith("number of"):
        total, gap = values[a] + values[b], abs(values[a] - values[b])
        wordings = [f"What is the {column.asks} of {rows[a]} and {rows[b]} together?"]
        found.append(asked(w, wordings, number_forms(total), "sum", evidence))
        if gap:
            wordings = [f"What is the difference in the {column.asks} between {rows[a]} and {rows[b]}?"]
            found.append(asked(w, wordings, number_forms(gap), "difference", evidence))
    return found
