"""Which questions are asked of a page."""

import numpy as np

from midsight.data.documents.ask import ask, format_box, words_in
from midsight.data.documents.record import Question, Record
from midsight.data.documents.sheet import Sheet, Word
from midsight.data.documents.vocabulary import Vocabulary

FIELDS = {"a": "Rose Tea", "b": "12 Hill Road", "c": "Oakford"}


def _sheet(**moved: tuple[float, float, float, float]) -> Sheet:
    """Three fields below each other, 200 by 100 pixels."""
    places = {"a": (10, 10, 90, 20), "b": (10, 30, 90, 40), "c": (10, 50, 60, 60)} | moved
    words = []
    for name, (x0, y0, x1, y1) in places.items():
        parts = FIELDS[name].split()
        width = (x1 - x0) / len(parts)
        words += [Word(p, (x0 + n * width + 1, y0, x0 + (n + 1) * width - 1, y1)) for n, p in enumerate(parts)]
    return Sheet(np.zeros((100, 200, 3), np.uint8), tuple(words), {name: (box,) for name, box in places.items()})


def _asked(record: Record, sheet: Sheet, most: int = 50) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {q.text: (q.kind, q.answers) for q in ask(Vocabulary((1,)), record, sheet, most)}


def test_boxes_in_text() -> None:
    assert format_box((0, 0, 200, 100), 200, 100) == "[000,000,999,999]"
    assert format_box((20, 10, 50.19, 33.39), 200, 100) == "[100,100,250,333]"
    assert format_box((-5, 10, 500, 33), 200, 100) == "[000,100,999,330]"


def test_only_what_the_page_shows_and_what_has_one_answer() -> None:
    questions = [
        Question("Shown?", ("yes",), "lookup", ("a",)),
        Question("Hidden?", ("no",), "lookup", ("a", "gone")),
        Question("Twice?", ("one",), "lookup", ("a",)),
        Question("Twice?", ("two",), "lookup", ("b",)),
    ]
    found = _asked(Record(FIELDS, questions), _sheet())
    assert "Shown?" in found
    assert not {"Hidden?", "Twice?"} & set(found)


def test_questions_are_of_many_kinds() -> None:
    questions = [Question(f"Q{n}", (str(n),), "lookup", ("a",)) for n in range(40)]
    questions += [Question("C", ("1",), "count", ("a",)), Question("S", ("2",), "sum", ("b",))]
    record = Record(FIELDS, questions)
    asked = [[q.kind for q in ask(Vocabulary((seed,)), record, _sheet(), 6)] for seed in range(40)]
    assert all(len(kinds) == 6 for kinds in asked)
    assert all({"sum", "lookup"} <= set(kinds) for kinds in asked)
    assert 10 < sum("count" in kinds[:4] for kinds in asked) < 40


def test_the_line_below_is_asked_only_where_it_is_right_below() -> None:
    record = Record(FIELDS, [], stacks=[("a", "b", "c")])
    found = {answers for kind, answers in _asked(record, _sheet()).values() if kind == "next_line"}
    assert found == {("12 Hill Road",), ("Oakford",)}
    beside = _asked(record, _sheet(b=(110, 10, 190, 20)))
    assert not [kind for kind, _ in beside.values() if kind == "next_line"]
    between = _asked(Record(FIELDS, [], stacks=[("a", "c")]), _sheet())
    assert not [kind for kind, _ in between.values() if kind == "next_line"]


def test_the_whole_text_is_asked_where_all_of_it_is_shown_in_order() -> None:
    record = Record(FIELDS, [], reading=("a", "b", "c"))
    whole = [answers for kind, answers in _asked(record, _sheet()).values() if kind == "transcribe"]
    assert whole == [("Rose Tea 12 Hill Road Oakford",)]
    upside_down = _sheet(a=(10, 70, 90, 80))
    assert not [kind for kind, _ in _asked(record, upside_down).values() if kind == "transcribe"]


def test_a_box_is_read_only_where_it_holds_nothing_else() -> None:
    record = Record(FIELDS, [])
    boxes = [a for k, a in _asked(record, _sheet(b=(10, 10, 90, 20), c=(10, 10, 90, 20))).values() if k == "read_box"]
    assert boxes == []
    sheet = _sheet()
    assert words_in(sheet, sheet.places["b"][0]) == ["12", "Hill", "Road"]
