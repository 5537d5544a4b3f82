"""Letters and pages of running text: who writes to whom, headings, sentences to be read."""

from midsight.data.documents import lists
from midsight.data.documents.kinds.wording import asked, counted
from midsight.data.documents.record import Question, Record, looked_up
from midsight.data.documents.vocabulary import Vocabulary

_CLOSINGS = ("Yours sincerely,", "Kind regards,", "Best wishes,", "Yours faithfully,", "With thanks,")
_GREETINGS = ("Dear {name},", "Dear Mr or Ms {last},", "To {name}:", "Hello {first},")
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")


def draw(w: Vocabulary, layout: str) -> Record:
    """A letter or memo where the layout is one, else an article with sections."""
    return _letter(w, layout) if layout.startswith(("letter", "memo")) else _article(w, layout)


def _letter(w: Vocabulary, layout: str) -> Record:
    sender, reader, company = w.person(), w.person(), w.company()
    first, last = reader.split()[0], reader.split()[-1]
    fields = {
        "company": company, "sender.street": w.street(), "sender.city": f"{w.postcode()} {w.city()}",
        "sender.phone": w.phone(), "reader.name": reader, "reader.street": w.street(),
        "reader.city": f"{w.postcode()} {w.city()}", "date": w.date(w.day()),
        "subject": w.pick(lists.SUBJECT_LINES).format(
            code=w.code("??-####"), thing=w.pick(lists.SLOTS["thing"]), city=w.city()
        ),
        "greeting": w.pick(_GREETINGS).format(name=reader, first=first, last=last),
        "closing": w.pick(_CLOSINGS), "signer": sender, "job": w.job(),
        "label.subject": w.pick(("Subject", "Re", "Concerning")), "label.date": w.pick(("Date", "Dated")),
        "label.from": "From", "label.to": "To", "heading": w.pick(("MEMORANDUM", "Memo", "Internal note")),
    }  # fmt: skip
    counts = _sentences(w, fields, w.many(1, 4), 1, 3)
    if w.chance(0.4):
        fields |= {"label.copy": w.pick(("Enclosed", "Attached", "Copy to")), "copy": w.pick(
            ("Price list", "Contract", "Map", "Two photographs", "Order form", "Annual report"))}  # fmt: skip
    what = layout.split("_")[0]
    questions = [*_about_letter(w, fields, what), *_about_sentences(w, fields, counts)]
    names = {
        "date": "the date", "signer": f"the name of the {'person who signed' if what == 'letter' else 'sender'}",
        "subject": "the subject line",
        "reader.name": "the recipient's name in the address", "greeting": "the salutation",
        "closing": "the closing phrase",
    }  # fmt: skip
    stacks = [("reader.name", "reader.street", "reader.city"), ("signer", "job")]
    return Record(fields, questions, {"paragraphs": counts}, names, stacks)


def _about_letter(w: Vocabulary, fields: dict[str, str], what: str) -> list[Question]:
    signed = (
        ("Who signed the letter?", "Who wrote this?")
        if what == "letter"
        else ("Who wrote the memo?", "From whom is it?")
    )
    return [
        *looked_up(fields, "date", [w.pick((f"What is the date of the {what}?", "When was this written?"))], "date"),
        *looked_up(fields, "signer", [w.pick((*signed, "Who is the sender?"))]),
        *looked_up(fields, "job", [w.pick(("What is the position of the writer?",
            "What is the job title of the sender?"))]),
        *looked_up(fields, "reader.name", [w.pick(("To whom is this addressed?", "Who is the recipient?"))]),
        *looked_up(fields, "reader.street", ["What is the street address of the recipient?"]),
        *looked_up(fields, "reader.city", ["In which town, with its postal code, does the recipient live?"]),
        *looked_up(fields, "company", [w.pick(("Which company sent this?", "What is the name of the firm?"))]),
        *looked_up(fields, "sender.phone", ["What is the telephone number of the sender?"]),
        *looked_up(fields, "subject", [w.pick(("What is the subject?", "What does the subject line say?",
                                               "What is this about, by its subject line?"))], "read"),
        *looked_up(fields, "greeting", [w.pick(("What is the salutation?", "How is the reader greeted?"))], "read"),
        *looked_up(fields, "closing", ["Which phrase closes the letter, above the name?"], "read"),
        *looked_up(fields, "copy", [f'What stands after "{fields.get("label.copy", "")}"?']),
    ]  # fmt: skip


def _article(w: Vocabulary, layout: str) -> Record:
    headings = [h.format(city=w.city(), year=w.between(2012, 2026)) for h in w.some(lists.HEADINGS, w.many(2, 5))]
    sections = len(headings) - 1 if layout.startswith(("article", "report")) else 0
    author = w.person()
    fields = {
        "heading": headings[0],
        "author": author,
        "date": w.date(w.day()),
        "page": str(w.between(1, 240)),
        "journal": w.pick(("The {} Gazette", "{} Weekly", "{} Bulletin", "News of {}")).format(w.city()),
    }
    counts = _sentences(w, fields, max(1, sections) if sections else w.many(1, 4), 1, 4)
    fields |= {f"section.{n}": heading for n, heading in enumerate(headings[1:][:sections])}
    found = [
        *looked_up(fields, "heading", [w.pick(("What does the heading say?", "What is the title?",
            "Read the headline."))], "read"),
        *looked_up(fields, "author", [w.pick(("Who wrote the text?", "Who is the author?"))]),
        *looked_up(fields, "date", [w.pick(("What is the date of the text?", "Which date is given?"))], "date"),
        *looked_up(fields, "page", ["What is the page number?"]),
        *looked_up(fields, "journal", [w.pick(("What is the name of the newspaper?",
            "In which paper did it appear?"))]),
    ]  # fmt: skip
    for n in range(sections):
        wordings = [f"What is the heading of the {_ORDINALS[n]} section?", f"Read the {_ORDINALS[n]} section heading."]
        found.append(asked(w, wordings, (fields[f"section.{n}"],), "read", (f"section.{n}",)))
    if sections > 1:
        evidence = tuple(f"section.{n}" for n in range(sections))
        found.append(asked(w, ("How many sections with a heading of their own are there, not counting the title?",),
                           counted(sections), "count", evidence))  # fmt: skip
    found += _about_sentences(w, fields, counts)
    names = {"heading": "the title", "author": "the author's name", "date": "the date"}
    names |= {f"section.{n}": f'the section heading "{fields[f"section.{n}"]}"' for n in range(sections)}
    return Record(fields, found, {"paragraphs": counts, "sections": sections}, names)


def _sentences(w: Vocabulary, fields: dict[str, str], paragraphs: int, low: int, high: int) -> list[int]:
    """Adds sentences as fields, no two the same; returns how many each paragraph has."""
    used: set[str] = set()
    counts = []
    for p in range(paragraphs):
        counts.append(w.many(low, high))
        for n in range(counts[-1]):
            text = w.sentence()
            while text in used:
                text = w.sentence()
            used.add(text)
            fields[f"text.{p}.{n}"] = text
    return counts


def _about_sentences(w: Vocabulary, fields: dict[str, str], counts: list[int]) -> list[Question]:
    keys = [(p, n) for p, count in enumerate(counts) for n in range(count)]
    starts = [" ".join(fields[f"text.{p}.{n}"].split()[:3]) for p, n in keys]
    found = []
    for (p, n), start in zip(keys, starts, strict=True):
        text = fields[f"text.{p}.{n}"]
        if starts.count(start) > 1 or len(text.split()) < 5:
            continue
        wordings = [
            f'Read the sentence that begins with "{start}".',
            f'Write out the sentence that starts "{start} ...".',
        ]
        found.append(asked(w, wordings, (text,), "transcribe", (f"text.{p}.{n}",)))
    for p, count in enumerate(counts[: len(_ORDINALS)]):
        words = " ".join(fields[f"text.{p}.{n}"] for n in range(count)).split()
        keys_of = tuple(f"text.{p}.{n}" for n in range(count))
        ordinal = _ORDINALS[p]
        found.append(
            asked(w, (f"What is the first word of the {ordinal} paragraph?",), (words[0],), "read", keys_of[:1])
        )
        if len(words) <= 40:
            wordings = [f"Transcribe the {ordinal} paragraph.", f"What does the {ordinal} paragraph say?"]
            found.append(asked(w, wordings, (" ".join(words),), "transcribe", keys_of))
    if len(counts) > 1:
        first = tuple(f"text.{p}.0" for p in range(len(counts)))
        found.append(
            asked(w, ("How many paragraphs does the running text have?",), counted(len(counts)), "count", first)
        )
    return found
