"""The benchmarks: where their questions come from, what is asked, and how answers are measured."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from midsight.errors import InputError
from midsight.evaluate.language import choices, documents, photographs, plm_videobench
from midsight.evaluate.language.prompts import PROMPTS, Prompt
from midsight.evaluate.language.question import Question
from midsight.evaluate.metrics import answers as text
from midsight.evaluate.metrics import located
from midsight.evaluate.metrics.choices import all_right, chosen_option
from midsight.evaluate.metrics.cider import cider
from midsight.evaluate.metrics.vqa import normalise, normalise_words, vqa_accuracy
from midsight.plm.boxes import parse_boxes

Scores = npt.NDArray[np.float64]
Given = Sequence[str | None]  # answers; None where there is none, which counts as wrong
Measured = Mapping[str, Scores]  # by name of the figure, the first is the main one; one score for each unit
Score = Callable[[Question, str], float]


@dataclass(frozen=True)
class Task:
    """One benchmark."""

    title: str
    read: Callable[[Path, str], Iterator[Question]]
    measure: Callable[[Sequence[Question], Given], Measured]
    prompt: Prompt
    split: str = "val"  # that is measured where none is named

    def questions(self, folder: Path, split: str = "", limit: int | None = None) -> list[Question]:
        """The questions of a split in the order of their list; the media need not be there.

        Args:
            folder: of the benchmark; layouts are described with the readers.
            split: empty for the usual one.
            limit: only the first ones.

        Raises:
            InputError: files are missing, cut or of another layout; two questions with one id; no question at all.
        """
        found = list(self.read(folder, split or self.split))
        twice = [id for id, count in Counter(question.id for question in found).items() if count > 1]
        if twice or not found:
            raise InputError(f"{folder}: " + (f"two questions have the id {twice[0]}" if twice else "no questions"))
        return found[:limit]


def get_task(name: str) -> Task:
    """The task of a name.

    Raises:
        InputError: there is none; names the nearest ones.
    """
    if name not in TASKS:
        near = get_close_matches(name.lower(), TASKS, n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(near)}?" if near else f"There are {', '.join(TASKS)}."
        raise InputError(f"there is no task named {name!r}. {hint}")
    return TASKS[name]


def each(name: str, score: Score) -> Callable[[Sequence[Question], Given], Measured]:
    """A figure that is a mean over questions, and the same of each part, where the questions have parts."""

    def measure(questions: Sequence[Question], given: Given) -> Measured:
        scores = _scores(questions, given, score)
        parts = defaultdict(list)
        for question, value in zip(questions, scores, strict=True):
            if question.extra.get("part"):
                parts[f"{name}, {question.extra['part']}"].append(value)
        more = {part: np.array(values) for part, values in parts.items()} if len(parts) > 1 else {}
        return {name: scores, **more}

    return measure


def pairs(questions: Sequence[Question], given: Given) -> Measured:
    """Multi-binary accuracy, and the plain accuracy of all pairs."""
    scores = _scores(questions, given, right_choice)
    whole = all_right([value == 1 for value in scores], [question.extra["group"] for question in questions])
    return {"multi-binary accuracy": np.array([*whole.values()], float), "accuracy of pairs": scores}


def spans(questions: Sequence[Question], given: Given) -> Measured:
    """Mean recall@1 over the thresholds, and recall@1 at each of them."""
    found = [None if answer is None else located.parse_span(answer) for answer in given]
    recalls = np.array(
        [located.span_recall(span, q.extra["span"]) for q, span in zip(questions, found, strict=True)], float
    )  # N, thresholds
    single = {f"recall@1, IoU {one}": recalls[:, place] for place, one in enumerate(located.SPAN_IOUS)}
    return {"mean recall@1": recalls.mean(axis=1), **single}


def captions(questions: Sequence[Question], given: Given) -> Measured:
    """CIDEr-D."""
    return {"CIDEr": cider([answer or "" for answer in given], [question.answers for question in questions])}


def right_choice(question: Question, answer: str) -> float:
    """1 where the answer means the right option."""
    return float(chosen_option(answer, question.options) == question.extra["right"])


def right_box(question: Question, answer: str) -> float:
    """1 where the first box of the answer overlaps the gold one by half or more."""
    boxes = parse_boxes(answer, *question.extra["size"])
    return float(bool(boxes) and located.box_iou(boxes[0], question.extra["box"]) >= located.BOX_IOU)


def agreement(normal: Callable[[str], str], question: Question, answer: str) -> float:
    """VQA accuracy after a way of writing answers."""
    return vqa_accuracy(normal(answer), [normal(gold) for gold in question.answers])


def tidy(answer: str) -> str:
    """Without white space around it and without a full stop, as lmms-eval takes PerceptionLM's answers."""
    return answer.strip().removesuffix(".")


def _scores(questions: Sequence[Question], given: Given, score: Score) -> Scores:
    values = [
        0.0 if answer is None else score(question, tidy(answer))
        for question, answer in zip(questions, given, strict=True)
    ]
    return np.array(values, float)


_ANLS = each("ANLS", lambda question, answer: text.anls(answer, question.answers))
_RELAXED = each("relaxed accuracy", lambda question, answer: text.relaxed_accuracy(answer, question.answers[0]))
_CHOICE = each("accuracy", right_choice)
_BOX = each("accuracy at IoU 0.5", right_box)

TASKS = {
    "docvqa": Task("DocVQA", documents.docvqa, _ANLS, PROMPTS["docvqa"]),
    "infographicvqa": Task("InfographicVQA", documents.infographicvqa, _ANLS, PROMPTS["infographicvqa"]),
    "chartqa": Task("ChartQA", documents.chartqa, _RELAXED, PROMPTS["chartqa"], "test"),
    "textvqa": Task(
        "TextVQA",
        photographs.textvqa,
        each("VQA accuracy", partial(agreement, normalise_words)),
        PROMPTS["textvqa"],
    ),
    "vqav2": Task("VQAv2", photographs.vqav2, each("VQA accuracy", partial(agreement, normalise)), PROMPTS["vqav2"]),
    "ai2d": Task("AI2D", choices.ai2d, _CHOICE, PROMPTS["ai2d"], "test"),
    "mvbench": Task("MVBench", choices.mvbench, _CHOICE, PROMPTS["mvbench"], "test"),
    "perceptiontest": Task("Perception Test", choices.perceptiontest, _CHOICE, PROMPTS["perceptiontest"]),
    "refcoco": Task("RefCOCO", photographs.refcoco, _BOX, PROMPTS["refcoco"]),
    "refcoco+": Task("RefCOCO+", partial(photographs.refcoco, name="refcoco+"), _BOX, PROMPTS["refcoco"]),
    "refcocog": Task("RefCOCOg", partial(photographs.refcoco, name="refcocog"), _BOX, PROMPTS["refcoco"]),
    "coco": Task("COCO captions", photographs.coco, captions, PROMPTS["coco"]),
    "fgqa": Task("PLM-VideoBench FGQA", plm_videobench.fgqa, pairs, PROMPTS["fgqa"], "test"),
    "rtloc": Task("PLM-VideoBench RTLoc", plm_videobench.rtloc, spans, PROMPTS["rtloc"], "test"),
    "rcap": Task("PLM-VideoBench RCap", plm_videobench.rcap, captions, PROMPTS["rcap"], "test"),
}
