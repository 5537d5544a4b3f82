"""The questions of a drawn document: those its page can answer, some made from places, and a mixed choice of them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from midsight.data.documents.kinds.wording import asked
from midsight.data.documents.record import Box, Question, Record
from midsight.data.documents.sheet import Sheet, union
from midsight.data.documents.vocabulary import Vocabulary

_LONGEST_READ = 60  # letters of a field that is asked for by its box
_OFTEN = ("lookup", "amount", "extreme")  # two at a time: what most public questions ask for
_RARER = ("read_box", "locate", "next_line", "count")  # every page has them: asked of each other page
_LONGEST_PAGE = 30  # words of a page that is asked for whole


@dataclass(frozen=True)
class Asked:
    """A question with its answers and, in pixels, what on the page gives them."""

    text: str
    answers: tuple[str, ...]
    kind: str
    evidence: tuple[tuple[str, tuple[Box, ...]], ...]  # field, one box for each of its lines


def format_box(box: Box, width: int, height: int) -> str:
    """`[xxx,yyy,xxx,yyy]`, thousandths of width and height, rounded down, 000 to 999: PerceptionLM's boxes in text."""
    shares = (box[0] / width, box[1] / height, box[2] / width, box[3] / height)
    return "[" + ",".join(f"{min(999, max(0, int(share * 1000))):03d}" for share in shares) + "]"


def ask(w: Vocabulary, record: Record, sheet: Sheet, most: int) -> list[Asked]:
    """So many questions at most, of as many kinds as there are; each has one answer that the page shows."""
    candidates = [
        q for q in (*record.questions, *_from_places(w, record, sheet)) if set(q.evidence) <= set(sheet.places)
    ]
    answers: dict[str, set[tuple[str, ...]]] = {}
    for question in candidates:
        answers.setdefault(question.text, set()).add(question.answers)
    plain = [q for q in {q.text: q for q in candidates}.values() if len(answers[q.text]) == 1]
    return [
        Asked(q.text, q.answers, q.kind, tuple((name, sheet.places[name]) for name in q.evidence))
        for q in _mixed(w, plain, most)
    ]


def words_in(sheet: Sheet, box: Box) -> list[str]:
    """The words whose middle lies in the box."""
    found = []
    for word in sheet.words:
        x, y = (word.box[0] + word.box[2]) / 2, (word.box[1] + word.box[3]) / 2
        if box[0] <= x <= box[2] and box[1] <= y <= box[3]:
            found.append(word.text)
    return found


def _mixed(w: Vocabulary, questions: Sequence[Question], most: int) -> list[Question]:
    """One of each kind in turn, in random order, until there are enough; the kinds that every page has come last."""
    kinds: dict[str, list[Question]] = {}
    for question in w.some(questions, len(questions)):
        kinds.setdefault(question.kind, []).append(question)
    order = w.some(list(kinds), len(kinds))
    later = [kind for kind in order if kind in _RARER and w.chance(0.5)]
    order = [kind for kind in order if kind not in later] + later
    chosen: list[Question] = []
    while order and len(chosen) < most:
        for kind in list(order):
            count = 2 if kind in _OFTEN else 1
            chosen += kinds[kind][:count]
            kinds[kind] = kinds[kind][count:]
            if not kinds[kind]:
                order.remove(kind)
    chosen = chosen[:most]
    return w.some(chosen, len(chosen))


def _from_places(w: Vocabulary, record: Record, sheet: Sheet) -> Iterator[Question]:
    height, width = sheet.pixels.shape[:2]
    for name, called in record.names.items():
        if name in sheet.places:
            box = format_box(union(sheet.places[name]), width, height)
            wordings = [f"Where is {called}?", f"Give the box of {called}.", f"Locate {called} on the page."]
            yield asked(w, wordings, (box,), "locate", (name,))
    short = [
        name
        for name, text in record.fields.items()
        if len(text) <= _LONGEST_READ and len(sheet.places.get(name, ())) == 1
        if words_in(sheet, sheet.places[name][0]) == text.split()
    ]
    for name in w.some(short, 2):
        box = format_box(sheet.places[name][0], width, height)
        wordings = [f"What is written in the box {box}?", f"Read the text at {box}."]
        yield asked(w, wordings, (record.fields[name],), "read_box", (name,))
    yield from _next_lines(w, record, sheet)
    if record.reading and _whole(record, sheet):
        text = " ".join(record.fields[name] for name in record.reading)
        wordings = ["Transcribe all the text.", "Read everything that is written here.", "What is written on it?"]
        yield asked(w, wordings, (text,), "transcribe", tuple(record.reading))


def _next_lines(w: Vocabulary, record: Record, sheet: Sheet) -> Iterator[Question]:
    """What stands right below a field, where that is plain to see and the upper text occurs once."""
    texts = Counter(record.fields.values())
    for stack in record.stacks:
        for upper, lower in zip(stack, stack[1:], strict=False):
            a, b = sheet.places.get(upper, ()), sheet.places.get(lower, ())
            if len(a) == len(b) == 1 and texts[record.fields[upper]] == 1 and _right_below(a[0], b[0], sheet):
                wordings = [f'What is the line right below "{record.fields[upper]}"?',
                            f'Read the text directly under "{record.fields[upper]}".']  # fmt: skip
                yield asked(w, wordings, (record.fields[lower],), "next_line", (lower, upper))


def _right_below(upper: Box, lower: Box, sheet: Sheet) -> bool:
    if lower[1] < upper[3] - 0.3 * (upper[3] - upper[1]) or min(upper[2], lower[2]) <= max(upper[0], lower[0]):
        return False
    between = upper[3], lower[1]
    return not any(
        between[0] < (word.box[1] + word.box[3]) / 2 < between[1] and word.box[0] < lower[2] and word.box[2] > lower[0]
        for word in sheet.words
    )


def _whole(record: Record, sheet: Sheet) -> bool:
    """Every field is shown, nothing else is, they follow each other downwards, and they are few words."""
    if any(len(sheet.places.get(name, ())) != 1 for name in record.reading):
        return False
    tops = [sheet.places[name][0][1] for name in record.reading]
    count = sum(len(record.fields[name].split()) for name in record.reading)
    return tops == sorted(tops) and count == len(sheet.words) and count <= _LONGEST_PAGE
