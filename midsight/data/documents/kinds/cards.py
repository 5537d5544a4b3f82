"""Cards, labels and signs: a few big words, as on doors, shelves, badges and roads."""

from collections.abc import Callable

from midsight.data.documents import lists
from midsight.data.documents.kinds.wording import asked
from midsight.data.documents.record import Question, Record, looked_up
from midsight.data.documents.vocabulary import Vocabulary

_WARNINGS = (
    ("DANGER", "High voltage", "Keep out"), ("CAUTION", "Wet floor", "Walk slowly"), ("NOTICE", "Staff only",
        "Ring the bell"),
    ("WARNING", "Hot surface", "Do not touch"), ("STOP", "Road closed", "Turn left"), ("ATTENTION",
        "Door opens outwards", "Stand back"),
    ("CAUTION", "Low bridge", "Height {n} m"), ("NO PARKING", "Delivery zone", "At any time"), ("QUIET PLEASE",
        "Examination in progress", "Room {n}"),
    ("WET PAINT", "Please use other door", "Until {n} o'clock"), ("PRIVATE", "No entry", "Ask at reception"), ("EXIT",
        "Emergency only", "Alarm will sound"),
)  # fmt: skip
_SHOPS = ("Bakery", "Books", "Flowers", "Pharmacy", "Tea Room", "Hardware", "Bicycles", "Optician", "Barber", "Gallery")


def draw(w: Vocabulary, layout: str) -> Record:
    """What stands on it follows from the layout's first word: badge, price, warning, shop, ticket, label, visit."""
    return _KINDS[layout.split("_")[0]](w)


def _badge(w: Vocabulary) -> Record:
    fields = {"line.0": w.pick(("HELLO, my name is", "Visitor", "Speaker", "Staff", "Guest")), "line.1": w.person(),
              "line.2": w.company()}  # fmt: skip
    questions = [
        *looked_up(fields, "line.1", [w.pick(("Whose badge is this?", "What name is on the badge?"))]),
        *looked_up(
            fields, "line.2", [w.pick(("Which organisation is on the badge?", "For whom does this person work?"))]
        ),
    ]
    return _lines(w, fields, questions, {"line.1": "the person's name", "line.2": "the organisation"})


def _price(w: Vocabulary) -> Record:
    name, low, high = w.pick([g for shop in ("grocery", "hardware", "garden", "office") for g in lists.SHOPS[shop]])
    cents = w.between(low, high)
    size = w.pick(("500 g", "1 kg", "250 ml", "1 l", "per piece", "pack of 6", "2 for 1", "new"))
    fields = {"line.0": name, "line.1": w.money(cents), "line.2": size, "line.3": w.code("Art. #####")}
    questions = [
        *looked_up(fields, "line.1", [w.pick((f"What does {name} cost?", "What is the price?"))], "amount",
            w.money.accepted(cents)),
        *looked_up(fields, "line.0", [w.pick(("Which product is this price tag for?", "What is being sold?"))]),
        *looked_up(fields, "line.3", ["What is the article number?"], "lookup", (fields["line.3"][5:],)),
    ]  # fmt: skip
    return _lines(w, fields, questions, {"line.1": "the price", "line.0": "the product's name"})


def _warning(w: Vocabulary) -> Record:
    words = [line.format(n=w.between(2, 9)) for line in w.pick(_WARNINGS)]
    fields = {f"line.{n}": text for n, text in enumerate(words)}
    questions = [
        *looked_up(fields, "line.0", [w.pick(("What does the largest line of the sign say?",
            "Read the sign's first line."))], "read"),
        *looked_up(fields, "line.2", ["What does the last line of the sign say?"], "read"),
    ]  # fmt: skip
    return _lines(w, fields, questions, {"line.0": f'the word "{words[0]}"'})


def _shop(w: Vocabulary) -> Record:
    opens, closes = w.between(6, 11), w.between(16, 21)
    fields = {
        "line.0": f"{w.person().split()[-1]}'s {w.pick(_SHOPS)}", "line.1": w.pick(("OPEN", "WELCOME",
            "Opening hours")),
        "line.2": f"{w.pick(lists.WEEKDAYS[:3])} to {w.pick(lists.WEEKDAYS[3:])}",
        "line.3": f"{opens}:00 - {closes}:00",
        "line.4": w.phone(),
    }  # fmt: skip
    questions = [
        *looked_up(fields, "line.0", [w.pick(("What is the name of the shop?", "Which shop is this?"))]),
        *looked_up(fields, "line.3", [w.pick(("What are the opening hours?", "During which hours is it open?"))]),
        *looked_up(fields, "line.2", [w.pick(("On which days is the shop open?",
            "From which day to which day is it open?"))]),
        *looked_up(fields, "line.4", ["What is the telephone number?"]),
        asked(w, ("At what time does the shop open?",), (f"{opens}:00", str(opens)), "lookup", ("line.3",)),
        asked(w, ("At what time does the shop close?",), (f"{closes}:00", str(closes)), "lookup", ("line.3",)),
    ]  # fmt: skip
    return _lines(w, fields, questions, {"line.3": "the opening hours", "line.0": "the shop's name"})


def _ticket(w: Vocabulary) -> Record:
    event = w.pick(
        ("Jazz Night", "Football Final", "Flower Show", "Film Festival", "Piano Recital", "Book Fair", "Theatre")
    )
    cents = 100 * w.between(4, 90)
    fields = {
        "line.0": event,
        "line.1": f"{w.pick(('Town Hall', 'Main Stage', 'Arena', 'Old Theatre'))} {w.pick(lists.CITIES)}",
        "line.2": w.date(w.day()), "line.3": w.pick(("Row {} Seat {}", "Block {} Place {}")).format(w.between(1, 30),
            w.between(31, 99)),
        "line.4": w.money(cents), "line.5": w.code("No. ######"),
    }  # fmt: skip
    questions = [
        *looked_up(fields, "line.0", [w.pick(("Which event is the ticket for?", "What is the ticket for?"))]),
        *looked_up(fields, "line.1", ["Where does the event take place?"]),
        *looked_up(fields, "line.2", [w.pick(("What is the date of the event?",
            "On which date is the ticket valid?"))], "date"),
        *looked_up(fields, "line.3", ["Which seat is it?"]),
        *looked_up(fields, "line.4", [w.pick(("What did the ticket cost?", "What is the price of the ticket?"))],
            "amount", w.money.accepted(cents)),
        *looked_up(fields, "line.5", ["What is the ticket's number?"], "lookup", (fields["line.5"][4:],)),
    ]  # fmt: skip
    return _lines(w, fields, questions, {"line.2": "the date", "line.4": "the price", "line.0": "the event"})


def _label(w: Vocabulary) -> Record:
    grams = w.between(2, 240) * 100
    fields = {
        "line.0": w.person(), "line.1": w.street(), "line.2": f"{w.postcode()} {w.city()}",
        "line.3": w.pick(lists.COUNTRIES),
        "line.4": f"Weight: {grams / 1000:.1f} kg", "line.5": w.code("?? ### ### ###"),
    }  # fmt: skip
    questions = [
        *looked_up(fields, "line.0", [w.pick(("To whom is the parcel sent?", "Who is the recipient?"))]),
        *looked_up(fields, "line.1", ["What is the street address on the label?"]),
        *looked_up(fields, "line.2", ["Which postal code and town are on the label?"]),
        *looked_up(fields, "line.3", [w.pick(("To which country is it sent?", "What is the country of destination?"))]),
        *looked_up(fields, "line.5", [w.pick(("What is the tracking number?", "What is the code in the last line?"))]),
        asked(w, ("How heavy is the parcel?", "What is the weight of the parcel?"),
              (f"{grams / 1000:.1f} kg", f"{grams / 1000:.1f}"), "lookup", ("line.4",)),
    ]  # fmt: skip
    return _lines(
        w, fields, questions, {"line.0": "the recipient's name", "line.3": "the country", "line.4": "the weight"}
    )


def _visit(w: Vocabulary) -> Record:
    person = w.person()
    fields = {
        "line.0": person,
        "line.1": w.job(),
        "line.2": w.company(),
        "line.3": w.phone(),
        "line.4": w.email(person),
        "line.5": w.city(),
    }
    questions = [
        *looked_up(fields, "line.0", [w.pick(("Whose card is this?", "What is the name on the card?"))]),
        *looked_up(fields, "line.1", [w.pick(("What is this person's job?", f"What is the position of {person}?"))]),
        *looked_up(
            fields, "line.2", [w.pick(("For which company does this person work?", "Which firm is on the card?"))]
        ),
        *looked_up(fields, "line.3", [w.pick(("What is the phone number?", "Which number can one call?"))]),
        *looked_up(fields, "line.4", ["What is the e-mail address?"]),
        *looked_up(fields, "line.5", [w.pick(("In which city is the office?", "Which city is on the card?"))]),
    ]
    return _lines(
        w, fields, questions, {"line.0": "the name", "line.3": "the phone number", "line.4": "the e-mail address"}
    )


def _lines(w: Vocabulary, fields: dict[str, str], questions: list[Question], names: dict[str, str]) -> Record:
    order = tuple(fields)
    return Record(fields, questions, {"lines": len(fields)}, names, (order,), order)


_KINDS: dict[str, Callable[[Vocabulary], Record]] = {
    "badge": _badge, "price": _price, "warning": _warning, "shop": _shop, "ticket": _ticket, "label": _label,
    "visit": _visit,
}  # fmt: skip
