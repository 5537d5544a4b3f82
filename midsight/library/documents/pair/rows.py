"""Training rows of documents: the text of a page as `midsight ask` reads it, its picture or not, questions, answers."""

import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from midsight.files import atomic_write
from midsight.library.documents.layout import Word, read_lines
from midsight.library.documents.pages import Page, PageId
from midsight.library.documents.pair.misread import misread
from midsight.library.documents.pair.recipe import PairRecipe
from midsight.library.documents.passages import page_text
from midsight.library.documents.prompts import free_prompt

_SEEN = ("chart", "infographic", "card")  # kinds that are something without their text
_WHAT_IS = re.compile(r"What is the ([^?]{3,60})\?")
_SHORTER = ("{}?", "{}", "Find the {}.", "what's the {}", "Tell me the {}.", "The {}, please.")
_MOST_PAGES = 3
Count = Callable[[str], int]
Turn = dict[str, str]
Truth = Mapping[str, Any]


def document_rows(folder: Path, out: Path, recipe: PairRecipe, count: Count) -> Iterator[dict[str, Any]]:
    """One row a document of a build's training part; pictures are written below `out`.

    Args:
        folder: as `midsight data build documents` wrote it.
        out: folder of the rows.
        recipe: what is asked and shown.
        count: tokens of a text.
    """
    with open(folder / "train.truth.jsonl") as lines:
        found = [json.loads(line) for line in lines]
    order = np.random.default_rng((recipe.seed, 0)).permutation(len(found))
    for place, index in enumerate(order.tolist()):
        rng = np.random.default_rng((recipe.seed, 1, index))
        truth = found[index]
        beside = _MOST_PAGES - 1 if rng.random() < recipe.several else 0
        others = [found[n] for n in rng.integers(len(found), size=beside)]
        picture = None
        if place < recipe.pictured:
            picture = f"pictures/{truth['id']}.webp"
            write_small(folder / truth["image"], out / picture, recipe.side, recipe.quality)
        row = document_row(truth, others, picture, recipe, rng, count)
        if row is not None:
            yield row


def document_row(
    truth: Truth,
    others: Sequence[Truth],
    picture: str | None,
    recipe: PairRecipe,
    rng: np.random.Generator,
    count: Count,
) -> dict[str, Any] | None:
    """A document's questions in an order of chance behind its text; None where nothing can be asked."""
    asked = [q for q in truth["questions"] if q["kind"] not in recipe.left_out]
    if not asked:
        return None
    asked = [asked[n] for n in rng.permutation(len(asked))]
    text = ""
    if picture is None or truth["kind"] not in _SEEN or rng.random() >= recipe.unread:
        pages = [_page(one, recipe, rng) for one in (truth, *_other_kinds(truth, others))]
        pages = [pages[n] for n in rng.permutation(len(pages))]
        text = page_text(pages, asked[0]["question"], recipe.text_tokens, count)
        if len(text) < len("\n".join(page.text for page in pages)):  # lines are left out: their answers with them
            asked = asked[:1] + [q for q in asked[1:] if q["answers"][0] in text]
    turns: list[Turn] = []
    for place, question in enumerate(asked):
        prompt = free_prompt("" if place else text, _reworded(question["question"], recipe, rng), sees=True)
        turns += [{"from": "human", "value": prompt}, {"from": "assistant", "value": question["answers"][0]}]
    return {"id": truth["id"], **({"image": picture} if picture else {}), "conversations": turns}


def _other_kinds(truth: Truth, others: Sequence[Truth]) -> list[Truth]:
    """Documents that are not of one kind with another: "What is the total?" would mean two of them."""
    return list({one["kind"]: one for one in others if one["kind"] != truth["kind"]}.values())


def _page(truth: Truth, recipe: PairRecipe, rng: np.random.Generator) -> Page:
    """The document as the reader would have it, with a number of chance."""
    words = [Word(text, (x0, y0, x1, y1)) for text, x0, y0, x1, y1 in truth["words"]]
    if rng.random() < recipe.misread:
        kept = {part for q in truth["questions"] for answer in q["answers"] for part in answer.split()}
        words = misread(words, kept, rng)
    number = int(rng.integers(1, 40))
    size = truth["width"], truth["height"]
    return Page(PageId(truth["id"], number), size, tuple(read_lines(words)), "ocr")


def _reworded(question: str, recipe: PairRecipe, rng: np.random.Generator) -> str:
    """As people type: without "What is", or in lower case."""
    found = _WHAT_IS.fullmatch(question)
    if found is None or rng.random() >= recipe.reworded:
        return question
    shorter = _SHORTER[rng.integers(len(_SHORTER))].format(found[1])
    return shorter[0].upper() + shorter[1:] if rng.random() < 0.5 else shorter


def write_small(source: Path | Image.Image, target: Path, side: int, quality: int) -> None:
    """A picture with its longer side at most `side` pixels, as WebP; one that is there stays."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    opened = source if isinstance(source, Image.Image) else Image.open(source)
    image = opened.convert("RGB")
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    image.save(content, "WEBP", quality=quality)
    with atomic_write(target) as file:
        file.write(content.getvalue())
