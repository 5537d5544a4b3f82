"""Questions about pictures without text: `midsight ask` beside a language model that is given the same names.

Part of `python -m benchmarks.documents photographs WORK`; WORK is where `midsight.train.embedded` keeps its data.
The pictures are the everyday photographs, which nothing was trained on. The thresholds of yes were chosen on those of a
third of the names; what is measured here are the other two thirds.
"""

import random
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

TUNED_ON = 83  # of the names
BRIEFLY = "Answer with a single word or phrase."
COLOURS = {"red": (200, 30, 30), "green": (30, 150, 60), "blue": (40, 70, 200), "yellow": (240, 210, 40)}
COUNTS = ("one", "two", "three", "four")
COMPOSED = 60  # pictures for each of colours and counts


@dataclass(frozen=True)
class Question:
    """What is asked of a picture; right answers, and answers that are right but broader."""

    number: int  # of the picture
    name: str  # of what it shows
    kind: str  # of the question: a column of the table
    text: str
    right: frozenset[str]
    broader: frozenset[str] = frozenset()
    options: tuple[str, ...] = ()


Way = Callable[[str, Question], str]  # path of a picture, question -> answer


def measure(work: Path, most: int) -> str:
    """The tables: ways to answer, and what the eye cannot tell. Language models are asked about `most` pictures."""
    from midsight.data import packaged

    root = work / "data"
    pictures = packaged.everyday(root)
    questions = list(ask_all(pictures, root))
    few = set(random.Random(2).sample(sorted({q.number for q in questions}), most))
    asked_few = [q for q in questions if q.number in few]
    return "\n".join([table(pictures, ways(questions, asked_few)), "", "\n\n".join(cannot(pictures))])


def table(pictures: Sequence[Any], ways: Iterable[tuple[str, Way, list[Question]]]) -> str:
    """A row for each way."""
    rows = ["| Way | Pictures | What is it? | or broader | Yes or no | the same, of its kind | One of four |"]
    rows.append("|---|---|---|---|---|---|---|")
    for name, way, asked in ways:
        answers = [_told(way, str(pictures[q.number].path), q) for q in asked]
        rows.append(_row(name, asked, answers))
        print(rows[-1], flush=True)
    return "\n".join(rows)


def ways(every: list[Question], few: list[Question]) -> Iterator[tuple[str, Way, list[Question]]]:
    """Names of the ways, and what each is asked."""
    import midsight
    from midsight.library.documents.ask import DocumentAsker
    from midsight.library.documents.default import open_default
    from midsight.library.documents.pages import Reader
    from midsight.library.documents.seen import Eye
    from midsight.plm.packaged import open_smollm2

    looks, reads, plain = midsight.load(threads=1), open_default()[0], open_smollm2()
    with Reader() as reader:
        asker = DocumentAsker(reads, reader, looks=lambda: looks)
        ask: Way = lambda path, question: asker.ask([path], question.text).answer  # noqa: E731
        yield "midsight ask", ask, every
        yield "midsight ask, fewer pictures", ask, few
    eye = Eye(looks)
    yield "its five names in the prompt, SmolLM2 answers", _by_words(eye, plain), few
    yield "its five names in the prompt, the embedded reader answers", _by_words(eye, reads), few
    yield "its names as one soft word, SmolLM2 answers", _by_soft_word(eye, plain), few


def ask_all(pictures: Sequence[Any], root: Path) -> Iterator[Question]:
    """All questions about the pictures that nothing was chosen on, drawn with a fixed seed."""
    from midsight.data.packages import fetch
    from midsight.data.wordnet import WordNet

    wordnet = WordNet(fetch("wordnet-base", root) / "usr/share/wordnet")
    names = sorted({picture.name for picture in pictures})
    shuffled = names[:]
    random.Random(0).shuffle(shuffled)
    draw, tuned = random.Random(1), set(shuffled[:TUNED_ON])
    for number, picture in enumerate(pictures):
        if picture.name in tuned:
            continue
        right, broader = accepted(picture.name, picture.kind, wordnet)
        yield Question(number, picture.name, "what", "What is in this picture?", right, broader)
        yield _yes_no(number, picture.name, picture.name, "yes", "yes_no")
        other = draw.choice([p.name for p in pictures if p.kind != picture.kind])
        yield _yes_no(number, picture.name, other, "no", "yes_no")
        if alike := [p.name for p in pictures if p.kind == picture.kind and p.name != picture.name]:
            yield _yes_no(number, picture.name, picture.name, "yes", "of_kind")
            yield _yes_no(number, picture.name, draw.choice(alike), "no", "of_kind")
        options = [picture.name, *draw.sample([name for name in names if name != picture.name], 3)]
        draw.shuffle(options)
        text = f"Is it {', '.join(map(with_article, options[:3]))} or {with_article(options[3])}?"
        yield Question(number, picture.name, "choice", text, frozenset((picture.name,)), options=tuple(options))


def accepted(name: str, kind: str, wordnet: Any) -> tuple[frozenset[str], frozenset[str]]:
    """Right answers: the name, its synonyms, narrower names; and broader ones that still say something."""
    from midsight.train.embedded.visible import SAY_LITTLE

    right, broader = {name}, {kind}
    for synset in wordnet.senses.get(name.lower().replace(" ", "_"), [])[:3]:
        below = [synset]
        while below:
            one = below.pop()
            right |= {own.lower() for own in wordnet.synsets[one].names}
            below += wordnet.children[one]
        broader |= {own.lower() for one in wordnet.ancestors(synset) for own in wordnet.synsets[one].names}
    return frozenset(right), frozenset(broader - SAY_LITTLE - right)


def holds(answer: str, names: frozenset[str]) -> bool:
    """Whether one of the names stands in an answer, as a word or several, in the singular or the plural."""
    words = re.sub(r"[^a-z0-9'-]+", " ", answer.lower()).split()
    runs = {" ".join(words[i : i + n]) for n in range(1, 5) for i in range(len(words) - n + 1)}
    return any({run, run.removesuffix("s"), run.removesuffix("es")} & names for run in runs)


def is_right(question: Question, answer: str, broader: bool = False) -> bool:
    """Whether an answer is right; of several options it may name only the right one."""
    if question.kind in ("yes_no", "of_kind"):
        return re.split(r"\W+", answer.strip().lower())[0] in question.right
    wrong = frozenset(question.options) - question.right
    return holds(answer, question.right | (question.broader if broader else frozenset())) and not holds(answer, wrong)


def _yes_no(number: int, name: str, thing: str, right: str, kind: str) -> Question:
    return Question(
        number,
        name,
        kind,
        f"Is there {with_article(thing)} in the picture?",
        frozenset((right,)),
        options=("yes", "no"),
    )


def with_article(name: str) -> str:
    """A thing as an answer names it."""
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def _told(way: Way, path: str, question: Question) -> str:
    from midsight.errors import MidsightError

    try:
        answer = way(path, question)
    except MidsightError as error:  # no answer is a wrong one, and is seen
        print(f"{question.text} {error}", file=sys.stderr)
        answer = ""
    print(f"{question.name}: {question.text} -> {answer}", file=sys.stderr)
    return answer


def _row(name: str, questions: list[Question], answers: list[str]) -> str:
    cells = [name, str(len({q.number for q in questions}))]
    for kind, broader in (("what", False), ("what", True), ("yes_no", False), ("of_kind", False), ("choice", False)):
        own = [(q, answer) for q, answer in zip(questions, answers, strict=True) if q.kind == kind]
        hits = [is_right(q, answer, broader) for q, answer in own]
        chance = 0.25 if kind == "choice" else 0.5
        if kind == "what":  # what is said of one picture, held against the others
            pairs = [(q, a) for q, _ in own for other, a in own if other.name != q.name]
            chance = sum(is_right(q, a, broader) for q, a in pairs) / len(pairs)
        cells.append(_share(hits, [q.number for q, _ in own], chance))
    return f"| {' | '.join(cells)} |"


def _share(hits: Sequence[bool], pictures: Sequence[int], chance: float) -> str:
    from midsight.train.embedded.figures import figure

    found = figure("", torch.tensor(hits), np.array(pictures), chance)
    return f"{found.value:.0%} ({found.low:.0%} to {found.high:.0%}; chance {chance:.0%})"


class Told:
    """A language model that is told names.

    It writes the name of what it is told about. Of given answers it takes the one that gains most in likelihood over
    the same question about a picture of nothing in particular, so that neither its leaning to one word nor an answer
    in a sentence counts against it.
    """

    def __init__(self, model: Any) -> None:
        from midsight.plm.answer import AnswerConfig, Answerer

        self.model, self.answerer = model, Answerer(model, AnswerConfig(max_new_tokens=24))
        self.tokenizer = self.answerer.tokenizer

    def answer(self, told: str, nothing: str, question: Question) -> str:
        if not question.options:
            return self.answerer.answer(f"{told}\n\n{question.text}\n{BRIEFLY}").text
        gains = np.subtract(self.liked(told, question), self.liked(nothing, question))
        return question.options[int(gains.argmax())]

    def liked(self, told: str, question: Question) -> list[float]:
        """Of each option, the logarithm of its probability."""
        from midsight.library.documents.prompts import scoring_prompt
        from midsight.library.documents.scoring import log_likelihoods

        answers = [
            option.capitalize() if option in ("yes", "no") else with_article(option) for option in question.options
        ]
        ids = [self.tokenizer.encode(f" {answer}") for answer in answers]
        prompt = self.tokenizer.encode(scoring_prompt(told, question.text))
        return log_likelihoods(self.model, prompt, ids, self.tokenizer.encode("\n")[0])


def _by_words(eye: Any, model: Any) -> Way:
    """A language model that is given the names as text."""
    from midsight.library.documents.asked import Asked

    told = Told(model)

    def answer(path: str, question: Question) -> str:
        names = eye.answer(Asked("name"), path).names
        seen = ", ".join(f"{name.label} ({name.score:.2f})" for name in names)
        return told.answer(f"The picture shows: {seen}.", "The picture shows: something (0.10).", question)

    return answer


def _by_soft_word(eye: Any, model: Any) -> Way:
    """A language model that is given one token: the mean of all names' tokens, weighed by their chances.

    A projector whose hidden units are keys and values, as PLM's two layers can be, could give this without training.
    """
    told, sharp, mark = Told(model), 3.0, "quartz"  # one token, which no question has
    table = model.token_embedding.weight.detach().float()
    names = torch.stack([table[told.tokenizer.encode(f" {name}")].mean(0) for name in eye.names])
    (place,) = told.tokenizer.encode(f" {mark}")
    length = table.norm(dim=1).mean()

    def answer(path: str, question: Question) -> str:
        logits = eye.logits(eye.model.embed_images([path])[0])
        word = torch.from_numpy(sharp * logits).softmax(0) @ names
        with torch.no_grad():  # the mark's row is the soft word for the length of one answer
            model.token_embedding.weight[place] = (word * length / word.norm()).to(model.dtype)
            try:
                return told.answer(f"The picture shows a {mark}.", "The picture shows a thing.", question)
            finally:
                model.token_embedding.weight[place] = table[place].to(model.dtype)

    return answer


def cannot(pictures: Sequence[Any]) -> list[str]:
    """What the eye makes of colours and counts, which it is not asked about by the command."""
    import midsight
    from midsight.library.documents.asked import Asked
    from midsight.library.documents.seen import Eye

    eye, draw = Eye(midsight.load(threads=1)), random.Random(4)
    stamps = [p for p in pictures if p.source == "tuxpaint-stamps-default"]
    found = {"which of four colours a ball has": [], "whether one, two, three or four are there": []}  # type: ignore[var-annotated]
    colours, counts = found.values()
    for _ in range(COMPOSED):
        colour = draw.choice(list(COLOURS))
        options = tuple(f"{name} ball" for name in COLOURS)
        colours.append(eye.answer(Asked("choice", options), _ball(colour, draw)).answer == f"{colour} ball")
        stamp, count = draw.choice(stamps), draw.randrange(len(COUNTS))
        options = tuple(f"{number} {stamp.name}{'s' if number != 'one' else ''}" for number in COUNTS)
        said = eye.answer(Asked("choice", options), _several(stamp.path, count + 1)).answer
        counts.append(said == options[count])
    return [f"{what}: {_share(hits, range(len(hits)), 0.25)}.".capitalize() for what, hits in found.items()]


def _ball(colour: str, draw: random.Random) -> Image.Image:
    picture = Image.new("RGB", (320, 320), "white")
    radius, x, y = draw.randint(50, 110), draw.randint(120, 200), draw.randint(120, 200)
    ImageDraw.Draw(picture).ellipse((x - radius, y - radius, x + radius, y + radius), COLOURS[colour], "black", 2)
    return picture


def _several(path: Path, count: int) -> Image.Image:
    """So many copies of a thing side by side on white."""
    one = Image.open(path).convert("RGBA")
    one.thumbnail((150, 150))
    picture = Image.new("RGB", (320, 320), "white")
    for n in range(count):
        picture.paste(one, (160 * (n % 2) + 5, 160 * (n // 2) + 5), one)
    return picture
