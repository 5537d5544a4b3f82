"""What may be an answer, its keys, how it fits a question, and comparisons over columns."""

import pytest

from midsight.library.documents.layout import Word
from midsight.library.documents.matching import Matcher, has_look, wanted_look
from midsight.library.documents.numerals import number
from midsight.library.documents.spans import Span, _is_head, labels, spans
from midsight.library.documents.tables import compared
from tests.library.documents.makers import lines_of

TABLE = [
    "Price list",
    "",
    "Item            Unit price      Stock",
    "Garden hose     $42.50          7",
    "Desk lamp       $35.90          12",
    "Envelopes       $4.20           310",
    "",
    "Total           $82.60",
]
MENU = [
    "Vitello tonnato        13.00",
    "cold sliced veal",
    "",
    "Branzino al sale       27.50",
    "sea bass in salt",
    "",
    "Burrata                12.50",
    "with roasted peppers",
]
TICKET = [
    "FROM           TO",
    "Oslo           Lisbon",
    "",
    "DEPARTS        ARRIVES",
    "07:10          10:25",
]
PAIRS = [
    "Payments       Amount      Deductions     Sums",
    "Basic pay      450.00      Income tax     28.40",
    "Bonus          150.00      Pension        98.00",
]
DAYS = [
    "               Fri 3      Sat 4       Sun 5",
    "               sunny      cloudy      rain",
    "high           24          22          16",
    "chance of rain   5%          20%         95%",
]
SHOP = [
    "The shop",
    "",
    "",
    "Tiramisu       6.50",
    "Panna cotta    5.90",
    "",
    "",
    "Open Tuesday to Sunday. Closed on Mondays. Ring twice.",
]
SURVEY = [
    "Car, alone     38%",
    "Bus            21%",
    "Bicycle        16%",
    "1,346              27 min",
    "people answered    one way",
]
BILL = [
    "Examination    $94.00",
    "X-ray          $187.50",
    "Nail trim      $18.00",
    "",
    "Balance        $299.50",
]
LOANS = [
    "Thousands of loans",
    "",
    "                   8.6",
    "                             8.2      Books",
    "7.1        6.4",
    "",
    "Jan        Feb     Mar       Apr",
]
BOARD = [
    "Time       Destination     Platform    Operator",
    "09:04      Leeds           3           Northern",
    "09:41      Edinburgh       2           Lner",
    "09:55      Hull            4           Northern",
]
CHART = [
    "Wind farms",
    "60",
    "                    55",
    "40        42",
    "20                              17",
    "          Norway    Sweden    Iceland",
]
YEARS = [
    "                2022    2023    2024",
    "Units sold      1204    1877    2430",
    "Revenue         2.1     3.4     4.5",
]
DAY = ["09:00 Coffee", "12:15 Lunch", "13:30 Talks", "For 2 adults and 3 children."]
FORM = [
    "Registration",
    "",
    "Full name         Employer",
    "Ada Lovelace      Analytical Ltd",
    "",
    "Start date: 12 May 2024",
]


def top(rows: list[str], question: str) -> str:
    lines = lines_of(rows)
    matcher = Matcher(question, lines)
    return max(spans(lines), key=matcher.score).text


@pytest.mark.parametrize(
    ("rows", "question", "denied"),
    [
        (["1 cabin bag. No checked baggage is included."], "Is a checked bag included?", True),
        (["One checked bag is included. No pets."], "Is a checked bag included?", False),
        (["5. PETS. One cat is allowed. No dogs."], "Are dogs allowed?", True),
        (["Racing and courier work are excluded."], "May I do courier work?", True),
        (["Monday    closed", "Tuesday   8.30 - 17.30"], "Can I go there on a Monday?", True),
        (["Monday    closed", "Tuesday   8.30 - 17.30"], "Can I go there on a Tuesday?", False),
        (["The pool does not open before June.", "The bar opens in May."], "Does the bar open in May?", False),
        (["Nothing of that kind stands here, and no more."], "Is there a lift?", False),
    ],
)
def test_what_a_page_denies(rows: list[str], question: str, denied: bool) -> None:
    lines = lines_of(rows)
    found = Matcher(question, lines).denied(spans(lines))
    assert (found is not None) is denied


def named(found: list[Span], text: str) -> Span:
    return next(span for span in found if span.text == text)


def test_a_cell_knows_the_head_of_its_row_and_column() -> None:
    span = named(spans(lines_of(TABLE)), "$35.90")
    assert (span.beside, span.above, span.head) == (("Desk lamp",), ("$42.50",), "Unit price")
    assert labels(lines_of(TABLE), spans(lines_of(TABLE))) >= {"Item", "Unit price", "Stock"}
    assert labels(lines_of(FORM), spans(lines_of(FORM))) == {"Full name", "Employer", "Start date"}


def test_a_value_behind_a_colon_has_its_label() -> None:
    span = named(spans(lines_of(FORM)), "12 May 2024")
    assert span.beside == ("Start date:",)
    assert len(span.boxes) == 1


@pytest.mark.parametrize(
    ("text", "head"),
    [("Fri 3", True), ("Thursday 4", True), ("Sept 2024", True), ("Q3", True), ("2023", True), ("Amount", True),
     ("Monitor 15", False), ("Decor 3", False), ("Marble 20", False), ("2,430", False), ("19.5", False)],
)  # fmt: skip
def test_days_months_and_years_head_columns(text: str, head: bool) -> None:
    assert _is_head(text) is head


def test_sentences_go_over_lines() -> None:
    rows = ["The harbour office is closed on the first", "Monday of each month. Call before you come."]
    span = named(spans(lines_of(rows)), "The harbour office is closed on the first Monday of each month.")
    assert len(span.boxes) == 2


@pytest.mark.parametrize(
    ("rows", "question", "answer"),
    [
        (TABLE, "What is the unit price of Desk lamp?", "$35.90"),
        (TABLE, "How many Envelopes are in stock?", "310"),
        (TABLE, "What is the total?", "$82.60"),
        (FORM, "Who is the employer?", "Analytical Ltd"),
        (FORM, "What is the full name?", "Ada Lovelace"),
        (FORM, "When is the start date?", "12 May 2024"),
        (FORM, 'What is written below "Full name"?', "Ada Lovelace"),
        (MENU, "How much is the sea bass?", "27.50"),
        (MENU, "What do the peppers cost?", "12.50"),
        (TICKET, "Where is she flying to?", "Lisbon"),
        (CHART, "How many wind farms has Sweden?", "55"),
        (CHART, "How many farms are in Iceland?", "17"),
        (YEARS, "How many units were sold in 2023?", "1877"),
        (YEARS, "What was the revenue in 2024?", "4.5"),
        (DAY, "What time is lunch?", "12:15"),
        (DAY, "How many adults?", "2"),
        (PAIRS, "How much was the bonus?", "150.00"),
        (PAIRS, "How much is the pension?", "98.00"),
        (DAYS, "How likely is rain on Saturday?", "20%"),
        (DAYS, "How warm will it be on Friday?", "24"),
        (SHOP, "What does the tiramisu cost?", "6.50"),
        (SHOP, "On which day is it closed?", "Mondays"),
        (BOARD, "Where does the train from platform 2 go?", "Edinburgh"),
        (BOARD, "Who is the operator of the Hull train?", "Northern"),
        (TICKET, "What time does the plane land?", "10:25"),
        (["Since when", "2020-today  Agulhas Trust", "Cape Town   Aquarium"], "Since when at the Trust?", "2020-today"),
        (["Invoice 12", "Please pay by March 25, 2024 at the latest."], "When is it due?", "March 25, 2024"),
        (["Women, all ages - Sunday 16 June - water 17.8 C, air 21 C"], "How warm was the water?", "17.8"),
        (["Dear Ms Hill,", "the meeting starts at 14:30 in room B."], "At what time does the meeting start?", "14:30"),
    ],
)
def test_the_words_around_a_span_find_the_answer(rows: list[str], question: str, answer: str) -> None:
    assert top(rows, question) == answer


@pytest.mark.parametrize(
    ("question", "answers"),
    [
        ("Which item has the highest unit price?", ["Garden hose"]),
        ("Which item is the cheapest by unit price?", ["Envelopes"]),
        ("Which item is the most expensive?", ["Garden hose"]),
        ("What is the lowest stock?", ["Garden hose"]),
        ("What is the highest value in the column Stock?", ["310"]),
        ("Which item is listed last?", ["Envelopes"]),
        ("Which item is listed first?", ["Garden hose"]),
        ("What is the unit price of Desk lamp?", []),
    ],
)
def test_comparisons(question: str, answers: list[str]) -> None:
    assert [span.text for span in compared(question, spans(lines_of(TABLE)))] == answers


@pytest.mark.parametrize(
    ("rows", "question", "answer"),
    [
        (SURVEY, "What is the most common way to get to work?", "Car, alone"),  # not the number of people
        (BILL, "Which treatment was the most expensive?", "X-ray"),  # not the balance
        (LOANS, "In which month were the most books borrowed?", "Mar"),
        (LOANS, "What would most people like?", None),
    ],
)
def test_comparisons_without_a_column(rows: list[str], question: str, answer: str | None) -> None:
    assert [span.text for span in compared(question, spans(lines_of(rows)))] == ([answer] if answer else [])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$1,037.20", 1037.2), ("39,99 kr", 39.99), ("1.234,5", 1234.5), ("7,400", 7400), ("48%", 48), ("-3", -3),
        ("12 May 2024", None), ("Room", None), ("2 of 3", None),
    ],
)  # fmt: skip
def test_numbers_as_documents_write_them(text: str, value: float | None) -> None:
    assert number(text) == (None if value is None else pytest.approx(value))


@pytest.mark.parametrize(
    ("question", "look", "fits", "misfits"),
    [
        ("When is it due?", "date", "11.06.2024", "4711"),
        ("How much is the total?", "money", "$99.90", "12 May 2024"),
        ("Who signed?", "name", "Ada Lovelace", "42 Main Street"),
        ("How many rooms are there?", "number", "12", "12 Main Street"),
        ("What is the phone number?", "phone", "(026) 827-5669", "26"),
        ("What is the e-mail?", "email", "a@b.org", "a at b"),
        ("Which company sent this?", "firm", "Hill and Sons Ltd", "12"),
        ("Is the price higher?", "yes_no", "", "12"),
        ("What percentage is it?", "percent", "48%", "48"),
        ("How long is the exam?", "duration", "150 min", "150"),
        ("How much later did they leave?", "duration", "4.3 days", "2019"),
        ("How heavy is it?", "weight", "11.6 lb", "22x14x9 in"),
        ("Which street is it in?", "address", "CORNMARKET STREET", "OFFICER"),
    ],
)
def test_looks(question: str, look: str, fits: str, misfits: str) -> None:
    assert wanted_look(question) == look
    assert look == "yes_no" or has_look(fits, look) > 0.5  # type: ignore[arg-type]
    assert has_look(misfits, look) < 0.5  # type: ignore[arg-type]


def test_boxes_of_a_span_follow_its_lines() -> None:
    words = (Word("one", (50, 0, 80, 10)), Word("two", (85, 0, 99, 10)), Word("three", (0, 14, 40, 24)))
    assert Span("one two three", words, 0).boxes == [(50, 0, 99, 10), (0, 14, 40, 24)]
