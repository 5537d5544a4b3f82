"""Questions about documents, infographics and charts.

Layouts: DocVQA and InfographicVQA as the Robust Reading Competition gives them (`data[]` with questionId, question,
image or image_local_name, answers); ChartQA as its authors do (test_human.json and test_augmented.json: imgname,
query, label; pictures in `png`).
"""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from midsight.evaluate.language.local import Media, checked, find_list, listed, read_json
from midsight.evaluate.language.prompts import PROMPTS
from midsight.evaluate.language.question import Question

TEXT_OR_NUMBER = (str, int)


def docvqa(folder: Path, split: str) -> Iterator[Question]:
    """`val_v1.0_withQT.json` or another list of the split; pictures in `documents` or `spdocvqa_images`."""
    path = find_list(folder, f"{split}_v*.json", f"{split}*.json")
    yield from _pages(path, "image", Media(folder, ("", "documents", "spdocvqa_images", "images")), "docvqa")


def infographicvqa(folder: Path, split: str) -> Iterator[Question]:
    """`infographicsVQA_val_v1.0_withQT.json`; pictures in `infographicsvqa_images`."""
    path = find_list(folder, f"infographics*_{split}_*.json", f"*{split}*.json")
    media = Media(folder, ("infographicsvqa_images", "images", ""))
    yield from _pages(path, "image_local_name", media, "infographicvqa")


def chartqa(folder: Path, split: str) -> Iterator[Question]:
    """`test_human.json` and `test_augmented.json` of a split; both count, and each is a part of its own."""
    paths = [(part, find_list(folder, f"{split}_{part}.json")) for part in ("human", "augmented")]
    yield from chain.from_iterable(_charts(path, part) for part, path in paths)


def _pages(path: Path, image: str, media: Media, task: str) -> Iterator[Question]:
    rows = listed(read_json(path), "data", path)
    for row in checked(rows, path, questionId=TEXT_OR_NUMBER, question=str, answers=list, **{image: str}):
        yield Question(
            str(row["questionId"]),
            (media.find(row[image]),),
            PROMPTS[task].ask(row["question"]),
            tuple(map(str, row["answers"])),
        )


def _charts(path: Path, part: str) -> Iterator[Question]:
    rows = read_json(path)
    media = Media(path.parent, ("png", "images", ""))
    for number, row in enumerate(
        checked(rows if isinstance(rows, list) else [rows], path, imgname=str, query=str, label=(str, int, float))
    ):
        yield Question(
            f"{part}-{number}",
            (media.find(row["imgname"]),),
            PROMPTS["chartqa"].ask(row["query"]),
            (str(row["label"]),),
            extra={"part": part},
        )
