"""Questions about documents: answers against a plain dump of OCR and about manuals, and whether the page is found.

`python -m benchmarks.documents answers FOLDER`: a build of `midsight data build documents`, its test_unseen part.
`python -m benchmarks.documents pages WORK`: two manuals out of Debian packages, downloaded below WORK.
`python -m benchmarks.documents manuals WORK`: answers about pages of these manuals.
`python -m benchmarks.documents strangers WORK`: pages by somebody who did not know the generator, rendered below WORK.
`python -m benchmarks.documents photographs WORK`: pictures without text; WORK as of `midsight.train.embedded`.

Each prints a table; `--write` puts it into `docs/ask.md`.
"""

import argparse
import csv
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, cpu_seconds

QUESTIONS = Path(__file__).with_name("document_pages.csv")
PAGE = ROOT / "docs" / "ask.md"
MANUALS = {  # manual -> package, file in it
    "debian-reference": ("debian-reference-en", "usr/share/debian-reference/debian-reference.en.pdf"),
    "developers-reference": ("developers-reference", "usr/share/developers-reference/developers-reference.pdf"),
}
# what words alone can answer; where something is, what a box holds and arithmetic are other tasks
KINDS = ("lookup", "date", "amount", "read", "next_line", "extreme", "yes_no", "count")
LAYOUTS = ("text", "table", "invoice", "form", "card", "infographic")
THRESHOLD = 0.5  # of ANLS, as published for DocVQA


@dataclass(frozen=True)
class Example:
    """A question with its accepted answers, and the boxes of its evidence."""

    picture: str
    layout: str
    kind: str
    question: str
    answers: tuple[str, ...]
    boxes: tuple[tuple[float, ...], ...]


def read_examples(folder: Path, part: str, most: int) -> list[Example]:
    """So many questions of a build's part, drawn with a fixed seed, grouped by picture."""
    found = []
    for line in (folder / f"{part}.truth.jsonl").read_text().splitlines():
        row = json.loads(line)
        for q in row["questions"]:
            if row["kind"] in LAYOUTS and q["kind"] in KINDS:
                boxes = tuple(tuple(box) for boxes in q["evidence"].values() for box in boxes)
                found.append(
                    Example(
                        str(folder / row["image"]), row["layout"], q["kind"], q["question"], tuple(q["answers"]), boxes
                    )
                )
    chosen = random.Random(0).sample(found, min(most, len(found)))
    return sorted(chosen, key=lambda example: example.picture)


def anls(answer: str, accepted: Sequence[str]) -> float:
    """Average normalised Levenshtein similarity of one answer. Source: ST-VQA, ICCV 2019."""
    best = max(_similarity(answer.strip().lower(), text.strip().lower()) for text in accepted)
    return best if best >= THRESHOLD else 0.0


def _similarity(a: str, b: str) -> float:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        above, row = row, [i]
        for j, y in enumerate(b, start=1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (x != y)))
    return 1 - row[-1] / max(len(a), len(b), 1)


def measure_answers(folder: Path, part: str, most: int) -> str:
    """The table of the ways to answer."""
    examples = read_examples(folder, part, most)
    rows = [
        "| Way | ANLS | holds the answer | by kind of question (ANLS) | framed where it stands | CPU seconds |",
        "|---|---|---|---|---|---|",
    ]
    for name, way in ways_to_answer().items():
        rows.append(_row(name, way, examples))
        print(rows[-1], flush=True)
    layouts = ", ".join(sorted({example.layout for example in examples}))
    return "\n".join([*rows, "", f"{len(examples)} questions; layouts: {layouts}."])


def ways_to_answer() -> dict[str, Callable[[Example], Any]]:
    """What is compared: name -> how it answers, with a string or an answer of `midsight ask`."""
    from midsight.library.documents.ask import AskConfig, DocumentAsker
    from midsight.library.documents.default import open_default
    from midsight.library.documents.pages import Reader
    from midsight.plm.packaged import open_smollm2

    blind, reader = open_smollm2(), Reader()
    ways: dict[str, Callable[[Example], Any]] = {"plain dump of rapidocr, SmolLM2 answers": _dump(blind)}
    for name, model in (("SmolLM2 alone, spans of the page", blind), ("midsight ask", open_default()[0])):
        asker = DocumentAsker(model, reader, AskConfig(max_new_tokens=40))
        ways[name] = lambda example, asker=asker: asker.ask([example.picture], example.question)
    return ways


def _row(name: str, way: Callable[[Example], Any], examples: Sequence[Example]) -> str:
    scores: dict[str, list[float]] = {}
    framed: list[bool] = []
    held = 0
    start = cpu_seconds()
    for example in examples:
        try:
            reply = way(example)
        except Exception as error:  # a failure is a wrong answer, and is seen
            print(f"{example.picture}: {error}", file=sys.stderr)
            reply = ""
        text = reply if isinstance(reply, str) else reply.answer
        scores.setdefault(example.kind, []).append(anls(text.strip().rstrip("."), example.answers))
        held += any(accepted.lower() in text.lower() for accepted in example.answers)
        if not isinstance(reply, str) and scores[example.kind][-1] >= THRESHOLD and reply.boxes and example.boxes:
            framed.append(any(_overlap(e.box, box) for e in reply.boxes for box in example.boxes))
    taken = (cpu_seconds() - start) / len(examples)
    every = [score for found in scores.values() for score in found]
    kinds = ", ".join(f"{kind} {sum(found) / len(found):.2f}" for kind, found in sorted(scores.items()))
    places = f"{sum(framed)} of {len(framed)}" if framed else "-"
    return f"| {name} | {sum(every) / len(every):.3f} | {held / len(every):.2f} | {kinds} | {places} | {taken:.1f} |"


def _overlap(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether two boxes share half of the smaller one."""
    shared = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    return shared > 0.5 * min((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (a, b))


def _dump(model: Any) -> Callable[[Example], str]:
    """The engine's own lines, in its own order, before the question."""
    from midsight.images import load_image
    from midsight.library.documents import ocr, prompts
    from midsight.plm.answer import AnswerConfig, Answerer

    answerer = Answerer(model, AnswerConfig(max_new_tokens=40))
    read: dict[str, str] = {}

    def answer(example: Example) -> str:
        if example.picture not in read:
            found, _ = ocr.engine()(load_image(example.picture)[..., ::-1].copy())
            read[example.picture] = "\n".join(text for _, text, _ in found or ())
        return answerer.answer(prompts.free_prompt(read[example.picture], example.question, sees=False)).text

    return answer


def measure_pages(work: Path) -> str:
    """The table of recall of the page, at 1 and at 4."""
    from midsight.library.documents.choose import PageChooser
    from midsight.library.documents.pages import Reader

    rows = [
        "| Manual | Pages | Questions | recall@1 | recall@4 | first question, s | others, ms |",
        "|---|---|---|---|---|---|---|",
    ]
    for manual, asked in _by_manual():
        with Reader() as reader:
            chooser, pages = PageChooser(reader), reader.pages(str(_manual(manual, work)))
            ranks, taken = [], []
            for page, question in asked:
                start = time.perf_counter()
                best = [found.number for found in chooser.choose(pages, question, 4)]
                taken.append(time.perf_counter() - start)
                ranks.append(best.index(page) + 1 if page in best else 5)
                print(page, best, question, file=sys.stderr)
        at = [sum(rank <= most for rank in ranks) / len(ranks) for most in (1, 4)]
        others = 1000 * sum(taken[1:]) / len(taken[1:])
        rows.append(
            f"| {manual} | {len(pages)} | {len(asked)} | {at[0]:.2f} | {at[1]:.2f} | {taken[0]:.1f} | {others:.1f} |"
        )
    return "\n".join(rows)


def measure_manuals(work: Path) -> str:
    """The table of answers about pages of two manuals, which are given; those questions that a few words answer."""
    from midsight.library.documents.ask import AskConfig, DocumentAsker
    from midsight.library.documents.default import open_default
    from midsight.library.documents.pages import Reader
    from midsight.plm.packaged import open_smollm2

    with open(QUESTIONS, newline="") as file:
        asked = [row for row in csv.DictReader(file) if row["answers"]]
    rows = ["| Way | ANLS | holds the answer | CPU seconds |", "|---|---|---|---|"]
    models = (("SmolLM2 alone, spans of the page", open_smollm2()), ("midsight ask", open_default()[0]))
    for name, model in models:
        scores, held, start = [], 0, cpu_seconds()
        with Reader() as reader:
            asker = DocumentAsker(model, reader, AskConfig(max_new_tokens=40))
            for row in asked:
                found = asker.ask([str(_manual(row["manual"], work))], row["question"], [int(row["page"])]).answer
                accepted = row["answers"].split("|")
                scores.append(anls(found.strip().rstrip("."), accepted))
                held += any(text.lower() in found.lower() for text in accepted)
                print(f"{name}: {row['question']} -> {found!r} ({accepted[0]})", file=sys.stderr)
        seconds = (cpu_seconds() - start) / len(asked)
        rows.append(f"| {name} | {sum(scores) / len(scores):.3f} | {held} of {len(asked)} | {seconds:.1f} |")
    return "\n".join(rows)


def _by_manual() -> Iterator[tuple[str, list[tuple[int, str]]]]:
    with open(QUESTIONS, newline="") as file:
        rows = list(csv.DictReader(file))
    for manual in MANUALS:
        yield manual, [(int(row["page"]), row["question"]) for row in rows if row["manual"] == manual]


def _manual(name: str, work: Path) -> Path:
    """The PDF of a manual, out of its Debian package."""
    package, inside = MANUALS[name]
    path = work / package / inside
    if not path.exists():
        work.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", package], cwd=work, check=True, capture_output=True)
        archive = next(work.glob(f"{package}_*.deb"))
        subprocess.run(["dpkg-deb", "-x", str(archive), str(work / package)], check=True)
    return path


def write(name: str, table: str) -> None:
    """Puts a table between its marks in the page."""
    text = PAGE.read_text()
    first, last = f"<!-- measured: {name} -->\n", "<!-- /measured -->"
    before, _, rest = text.partition(first)
    _, _, after = rest.partition(last)
    PAGE.write_text(f"{before}{first}{table}\n{last}{after}")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("answers", "manuals", "pages", "photographs", "strangers"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--part", help="answers: of the build; strangers: choose or kept, else both")
    parser.add_argument("--questions", type=int, default=60, help="or pictures, for language models")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    if given.what == "strangers" and given.part and given.write:
        parser.error("--write puts both parts into the page: leave --part out")
    if given.what == "pages":
        table = measure_pages(given.folder)
    elif given.what == "photographs":
        from benchmarks.photographs import measure

        table = measure(given.folder, given.questions)
    elif given.what == "manuals":
        table = measure_manuals(given.folder)
    elif given.what == "strangers":
        from benchmarks import strangers

        table = strangers.measure(given.folder, [given.part] if given.part else strangers.PARTS)
    else:
        table = measure_answers(given.folder, given.part or "test_unseen", given.questions)
    print(table)
    if given.write:
        write(f"documents_{given.what}", table)


if __name__ == "__main__":
    main()
