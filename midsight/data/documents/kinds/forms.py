"""Filled forms: labelled fields, some left empty, ticked boxes, a signature."""

from collections.abc import Callable

from midsight.data.documents import lists
from midsight.data.documents.kinds.wording import asked, counted, yes_no
from midsight.data.documents.record import Question, Record, looked_up
from midsight.data.documents.vocabulary import Vocabulary

_TITLES = (
    "Application for Membership", "Registration Form", "Patient Record", "Library Card Request", "Change of Address",
    "Course Enrolment", "Visitor Pass", "Damage Report", "Job Application", "Parking Permit", "Insurance Claim",
    "Travel Request", "Volunteer Sign-up", "Key Handover", "School Registration",
)  # fmt: skip
# label as printed, how a question names it, how its value is drawn
_FIELDS: tuple[tuple[str, str, Callable[[Vocabulary], str]], ...] = (
    ("Date of birth", "date of birth", lambda w: w.date(w.day(1940, 2008))),
    ("Street address", "street address", lambda w: w.street()),
    ("City", "city", lambda w: w.city()),
    ("Postal code", "postal code", lambda w: w.postcode()),
    ("Telephone", "telephone number", lambda w: w.phone()),
    ("Occupation", "occupation", lambda w: w.job()),
    ("Employer", "employer", lambda w: w.company()),
    ("Nationality", "nationality", lambda w: w.pick(("British", "Canadian", "French", "German", "Irish", "Italian",
                                                     "Kenyan", "Polish", "Spanish", "Swedish", "American"))),
    ("Member number", "member number", lambda w: w.code(w.pick(("######", "?-####", "##-####")))),
    ("Emergency contact", "emergency contact", lambda w: w.person()),
    ("Passport number", "passport number", lambda w: w.code("??######")),
    ("Country", "country", lambda w: w.pick(lists.COUNTRIES)),
    ("Department", "department", lambda w: w.pick(lists.DEPARTMENTS)),
    ("Start date", "start date", lambda w: w.date(w.day())),
    ("Vehicle registration", "vehicle registration", lambda w: w.code("?? ### ??")),
    ("Room", "room", lambda w: w.code("?##")),
    ("Height", "height", lambda w: f"{w.between(148, 199)} cm"),
    ("Weight", "weight", lambda w: f"{w.between(48, 110)} kg"),
    ("Blood type", "blood type", lambda w: w.pick(("A+", "A-", "B+", "B-", "AB+", "O+", "O-"))),
    ("Allergies", "allergies", lambda w: w.pick(("none", "pollen", "nuts", "milk", "dust", "penicillin"))),
    ("Doctor", "doctor", lambda w: w.person()),
    ("Policy number", "policy number", lambda w: w.code("###-####-#")),
    ("Number of persons", "number of persons", lambda w: str(w.between(1, 9))),
)  # fmt: skip
_CHOICES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Membership", ("Basic", "Family", "Student", "Senior")),
    ("Payment", ("Cash", "Card", "Transfer")),
    ("Language", ("English", "French", "German", "Spanish")),
    ("Delivery", ("Post", "Courier", "Pick-up")),
    ("Status", ("Single", "Married", "Divorced", "Widowed")),
    ("Contact by", ("Letter", "Phone", "E-mail")),
    ("Size", ("Small", "Medium", "Large", "X-Large")),
    ("Class", ("First", "Second", "Third")),
    ("Level", ("Beginner", "Intermediate", "Advanced")),
    ("Shift", ("Morning", "Evening", "Night")),
)
_CHECKS = (
    "I accept the conditions", "Send me the newsletter", "I have insurance", "I can work weekends", "Wheelchair access",
    "Vegetarian meals", "I bring my own tools", "Parking needed", "First visit", "Photos may be used",
)  # fmt: skip


def draw(w: Vocabulary, layout: str) -> Record:
    """A form with a name, 4 to 11 more fields of which one or two may be empty, choices, and a signature."""
    drawn = w.some(_FIELDS, w.many(4, 11))
    name, empty = w.person(), {n for n in range(len(drawn)) if len(drawn) > 4 and w.chance(0.1)}
    fields = {"title": w.pick(_TITLES), "label.0": w.pick(("Full name", "Name", "Name of applicant")), "value.0": name}
    fields |= {f"label.{n}": entry[0] for n, entry in enumerate(drawn, start=1)}
    fields |= {f"value.{n}": e[2](w) for n, e in enumerate(drawn, start=1) if n - 1 not in empty}
    fields |= {"number": w.code("Form ??-##"), "signature": name, "label.signature": w.pick(("Signature", "Signed"))}
    fields |= {"signed.date": w.date(w.day(2018)), "label.signed": w.pick(("Date", "Signed on"))}
    choices = w.some(_CHOICES, w.between(1, 2) if w.amount > 0.5 else 1)
    marks = []
    for c, (label, options) in enumerate(choices):
        fields |= {f"choice.{c}": label} | {f"choice.{c}.{o}": option for o, option in enumerate(options)}
        marks.append(w.between(0, len(options) - 1))
    checks = w.some(_CHECKS, w.many(1, 4))
    ticked = [w.chance(0.5) for _ in checks]
    fields |= {f"check.{n}": text for n, text in enumerate(checks)}
    data = {"fields": len(drawn) + 1, "choices": [len(o) for _, o in choices], "marks": marks, "ticked": ticked}
    names = {f"value.{n}": f"the {entry[1]}" for n, entry in enumerate(drawn, start=1)}
    names |= {"signature": "the signature", "value.0": "the applicant's name"}
    questions = [
        *_about_fields(w, fields, drawn, empty), *_about_choices(w, choices, marks), *_about_checks(w, checks, ticked),
    ]  # fmt: skip
    return Record(fields, questions, data, names)


def _about_fields(
    w: Vocabulary, fields: dict[str, str], drawn: list[tuple[str, str, Callable[[Vocabulary], str]]], empty: set[int]
) -> list[Question]:
    found = [
        *looked_up(fields, "title", [w.pick(("What is the title of the form?", "What kind of form is this?"))], "read"),
        *looked_up(fields, "value.0", [w.pick(("What is the name of the applicant?", "Whose form is this?"))]),
        *looked_up(fields, "signature", [w.pick(("Who signed the form?", "Whose signature is on the form?"))]),
        *looked_up(
            fields, "signed.date", [w.pick(("When was the form signed?", "On which date was it signed?"))], "date"
        ),
        *looked_up(fields, "number", ["What is the form's code, at its edge?"]),
    ]
    for n, (label, noun, _) in enumerate(drawn, start=1):
        wordings = [w.pick((f"What is the {noun}?", f'What is entered for "{label}"?', f'Read the field "{label}".'))]
        found += looked_up(fields, f"value.{n}", wordings, "date" if "date" in noun else "lookup")
    n = w.pick(sorted(empty)) + 1 if empty and w.chance(0.6) else w.between(1, len(drawn))
    wordings = [f'Is the field "{drawn[n - 1][0]}" filled in?', f'Has anything been entered for "{drawn[n - 1][0]}"?']
    evidence = (f"label.{n}", *((f"value.{n}",) if n - 1 not in empty else ()))
    return [*found, yes_no(w, wordings, n - 1 not in empty, evidence)]


def _about_choices(w: Vocabulary, choices: list[tuple[str, tuple[str, ...]]], marks: list[int]) -> list[Question]:
    found = []
    for c, ((label, options), mark) in enumerate(zip(choices, marks, strict=True)):
        wordings = [f'Which option is marked for "{label}"?', f'What is selected under "{label}"?']
        found.append(asked(w, wordings, (options[mark],), "lookup", (f"choice.{c}", f"choice.{c}.{mark}")))
        other = w.between(0, len(options) - 1)
        wordings = [f'Is "{options[other]}" marked for "{label}"?']
        found.append(yes_no(w, wordings, other == mark, (f"choice.{c}.{other}",)))
        evidence = tuple(f"choice.{c}.{o}" for o in range(len(options)))
        found.append(
            asked(w, (f'How many options are there for "{label}"?',), counted(len(options)), "count", evidence)
        )
    return found


def _about_checks(w: Vocabulary, checks: list[str], ticked: list[bool]) -> list[Question]:
    evidence = tuple(f"check.{n}" for n in range(len(checks)))
    n = w.between(0, len(checks) - 1)
    found = [yes_no(w, (f'Is "{checks[n]}" ticked?', f'Is the box "{checks[n]}" checked?'), ticked[n], (f"check.{n}",))]
    if len(checks) > 1:
        wordings = [f'How many of the {len(checks)} statements from "{checks[0]}" on are ticked?']
        found.append(asked(w, wordings, counted(sum(ticked)), "count", evidence))
    if sum(ticked) == 1:
        only = ticked.index(True)
        found.append(asked(w, ("Which statement is ticked?",), (checks[only],), "lookup", (f"check.{only}",)))
    return found
