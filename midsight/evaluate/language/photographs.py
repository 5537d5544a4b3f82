"""Questions about photographs, captions of them, and places in them.

Layouts: TextVQA's own (`TextVQA_0.5.1_val.json`); VQAv2's questions and annotations with COCO's names of pictures;
COCO's captions (`captions_val2014.json`) or Karpathy's splits (`dataset_coco.json`); RefCOCO as JSONL with image, sent,
bbox (x0, y0, x1, y1, pixels), width and height. RefCOCO's own lists are pickles, which can run code and are not read.
"""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from midsight.errors import InputError
from midsight.evaluate.language.local import Media, checked, find_list, listed, read_json, read_lines
from midsight.evaluate.language.prompts import PROMPTS
from midsight.evaluate.language.question import Question

TEXT_OR_NUMBER = (str, int)
NUMBER = (int, float)


def textvqa(folder: Path, split: str) -> Iterator[Question]:
    """`TextVQA_0.5.1_val.json`; pictures in `train_images`, those of the test split in `test_images`."""
    path = find_list(folder, f"TextVQA_*_{split}.json")
    media = Media(folder, ("train_images", "test_images", "images"))
    rows = listed(read_json(path), "data", path)
    for row in checked(rows, path, question_id=TEXT_OR_NUMBER, image_id=str, question=str, answers=list):
        yield Question(
            str(row["question_id"]),
            (media.find(row["image_id"] + ".jpg"),),
            PROMPTS["textvqa"].ask(row["question"].capitalize()),  # as lmms-eval does
            tuple(map(str, row["answers"])),
        )


def vqav2(folder: Path, split: str) -> Iterator[Question]:
    """`v2_OpenEnded_mscoco_val2014_questions.json` and `v2_mscoco_val2014_annotations.json`; pictures in `val2014`."""
    part = f"{split}2014"
    path = find_list(folder, f"v2_OpenEnded_mscoco_{part}_questions.json")
    truth = find_list(folder, f"v2_mscoco_{part}_annotations.json")
    annotations = checked(
        listed(read_json(truth), "annotations", truth), truth, question_id=TEXT_OR_NUMBER, answers=list
    )
    golds = {
        row["question_id"]: tuple(str(one["answer"]) for one in checked(row["answers"], truth, answer=str))
        for row in annotations
    }
    media = Media(folder, (part, f"images/{part}", ""))
    rows = listed(read_json(path), "questions", path)
    for row in checked(rows, path, question_id=TEXT_OR_NUMBER, image_id=int, question=str):
        if row["question_id"] not in golds:
            raise InputError(f"{truth}: has no answers to question {row['question_id']} of {path.name}")
        yield Question(
            str(row["question_id"]),
            (media.find(f"COCO_{part}_{row['image_id']:012d}.jpg"),),
            PROMPTS["vqav2"].ask(row["question"]),
            golds[row["question_id"]],
        )


def coco(folder: Path, split: str) -> Iterator[Question]:
    """`dataset_coco.json` with Karpathy's splits, or else `captions_val2014.json` as a whole; pictures in `val2014`."""
    path = find_list(folder, "dataset_coco.json", f"captions_{split}*.json")
    images = listed(read_json(path), "images", path)
    media = Media(folder, ("val2014", "train2014", "val2017", "images", ""))
    captions = _karpathy(images, path, split) if path.name == "dataset_coco.json" else _captions(images, path)
    for id, (name, texts) in captions.items():
        yield Question(id, (media.find(name),), PROMPTS["coco"].ask(""), tuple(texts))


def refcoco(folder: Path, split: str, name: str = "refcoco") -> Iterator[Question]:
    """`refcoco_val.jsonl` (testA, testB); pictures in `train2014`.

    Args:
        name: refcoco, refcoco+ or refcocog.
    """
    path = find_list(folder, f"{name}_{split}.jsonl")
    media = Media(folder, ("", "train2014", "images", "coco/train2014"))
    fields = dict(image=str, sent=str, bbox=list, width=NUMBER, height=NUMBER)
    for number, row in enumerate(checked(read_lines(path), path, **fields)):  # type: ignore[arg-type]
        box = row["bbox"]
        if len(box) != 4 or not all(isinstance(side, NUMBER) for side in box):
            raise InputError(f"{path}: entry {number} has the box {box!r:.80}, expected x0, y0, x1, y1 in pixels")
        yield Question(
            str(number),
            (media.find(row["image"]),),
            PROMPTS["refcoco"].ask(row["sent"]),
            (row["sent"],),
            extra={"box": tuple(map(float, box)), "size": (row["width"], row["height"])},
        )


def _karpathy(images: list[object], path: Path, split: str) -> dict[str, tuple[str, list[str]]]:
    found = {}
    for row in checked(images, path, filename=str, split=str, sentences=list, cocoid=int):
        if row["split"] == split:
            texts = [one["raw"] for one in checked(row["sentences"], path, raw=str)]
            found[str(row["cocoid"])] = (row["filename"], texts)
    if not found:
        raise InputError(f"{path}: has no pictures of the split {split!r}; Karpathy's are train, restval, val, test")
    return found


def _captions(images: list[object], path: Path) -> dict[str, tuple[str, list[str]]]:
    texts = defaultdict(list)
    for row in checked(listed(read_json(path), "annotations", path), path, image_id=int, caption=str):
        texts[row["image_id"]].append(row["caption"])
    rows = checked(images, path, id=int, file_name=str)
    return {str(row["id"]): (row["file_name"], texts[row["id"]]) for row in rows if row["id"] in texts}
