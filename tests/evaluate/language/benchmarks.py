"""Small benchmarks in the published layouts, and what a perfect model answers."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from midsight.errors import MediaError
from midsight.video import write_video

FRAMES = 40  # of a video


class Fake:
    """A model that says what it is told, in order, and keeps what it was asked."""

    def __init__(self, answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[tuple[Path, ...], str]] = []

    def answer(self, media: Sequence[Path], question: str) -> str:
        for path in media:
            if path.read_bytes() == b"broken":
                raise MediaError(f"{path}: is no picture")
        self.asked.append((tuple(media), question))
        return self.answers[len(self.asked) - 1]


def picture(path: Path, colour: str = "red", size: tuple[int, int] = (40, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def video(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_video(path) as writer:
        for index in range(FRAMES):
            writer.add(np.full((48, 64, 3), 4 * index + 40, np.uint8), index / 6, (index + 1) / 6)


def as_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def as_lines(path: Path, rows: Sequence[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def docvqa(folder: Path) -> list[str]:
    rows = [
        dict(questionId=337, question="what is the date?", image="documents/a_1.png", answers=["1/8/93", "Jan 8"]),
        dict(questionId=338, question="who signed?", image="documents/b_2.png", answers=["Mr. Smith"]),
    ]
    as_json(folder / "spdocvqa_qas" / "val_v1.0_withQT.json", {"dataset_split": "val", "data": rows})
    picture(folder / "spdocvqa_images" / "a_1.png")
    picture(folder / "documents" / "b_2.png")
    return ["jan 8", "mr. smith."]


def infographicvqa(folder: Path) -> list[str]:
    rows = [dict(questionId=1, question="how many?", image_local_name="10.jpeg", answers=["12"], data_split="val")]
    as_json(folder / "infographicsVQA_val_v1.0_withQT.json", {"data": rows})
    picture(folder / "infographicsvqa_images" / "10.jpeg")
    return ["12"]


def chartqa(folder: Path) -> list[str]:
    human = [dict(imgname="1.png", query="how many?", label="10"), dict(imgname="1.png", query="which?", label="Blue")]
    as_json(folder / "test" / "test_human.json", human)
    as_json(folder / "test" / "test_augmented.json", [dict(imgname="2.png", query="what share?", label="0.57")])
    picture(folder / "test" / "png" / "1.png")
    picture(folder / "test" / "png" / "2.png")
    return ["10.4", "blue", "0.55"]


def textvqa(folder: Path) -> list[str]:
    rows = [
        dict(question_id=34602, image_id="003a", question="what IS the brand?", answers=["nous"] * 4 + ["dakota"] * 6)
    ]
    as_json(folder / "TextVQA_0.5.1_val.json", {"data": rows})
    picture(folder / "train_images" / "003a.jpg")
    return ["Dakota."]


def vqav2(folder: Path) -> list[str]:
    questions = [
        dict(image_id=262148, question="Where is he looking?", question_id=262148000),
        dict(image_id=262148, question="How many?", question_id=262148001),
    ]
    annotations = [
        dict(question_id=262148001, image_id=262148, answers=[dict(answer="2", answer_id=i) for i in range(10)]),
        dict(question_id=262148000, image_id=262148, answers=[dict(answer="down", answer_id=i) for i in range(10)]),
    ]
    as_json(folder / "v2_OpenEnded_mscoco_val2014_questions.json", {"questions": questions})
    as_json(folder / "v2_mscoco_val2014_annotations.json", {"annotations": annotations})
    picture(folder / "val2014" / "COCO_val2014_000000262148.jpg")
    return ["Down", "two"]


def ai2d(folder: Path) -> list[str]:
    plain = dict(abcLabel=False, answerTexts=["ears", "nose", "mouth"], correctAnswer=1, questionId="0.png-0")
    lettered = dict(abcLabel=True, answerTexts=["a", "b"], correctAnswer=0, questionId="0.png-1")
    questions = {"Which one?": plain, "What is A?": lettered}
    as_json(folder / "questions" / "0.png.json", {"imageName": "0.png", "questions": questions})
    as_json(folder / "questions" / "1.png.json", {"imageName": "1.png", "questions": {}})
    for place in ("images", "abc_images"):
        picture(folder / place / "0.png")
    return ["B", "A. a"]


def mvbench(folder: Path) -> list[str]:
    row = dict(video="1.mp4", question="Which way?", candidates=["left", "right"], answer="right")
    as_json(folder / "json" / "moving_direction.json", [row])
    as_json(folder / "json" / "action_antonym.json", [row | {"video": "2.mp4", "answer": "left"}])
    video(folder / "video" / "clevrer" / "video_validation" / "1.mp4")
    video(folder / "video" / "ssv2_video_mp4" / "2.mp4")
    return ["(A) left", "right"]


def perceptiontest(folder: Path) -> list[str]:
    row = dict(id=3, question="Where?", options=["left", "right", "middle"], answer_id=2, area="physics")
    entry = {"metadata": {"video_id": "video_1"}, "mc_question": [row, row | {"id": 4, "answer_id": 0}]}
    as_json(folder / "mc_question_val.json", {"video_1": entry})
    video(folder / "videos" / "video_1.mp4")
    return ["C", "A"]


def refcoco(folder: Path) -> list[str]:
    row = dict(image="data/coco/train2014/COCO_1.jpg", sent="red ball", bbox=[10, 15, 30, 30], width=40, height=30)
    as_lines(folder / "refcoco_val.jsonl", [row])
    picture(folder / "train2014" / "COCO_1.jpg")
    return ["[250,500,750,999]"]


def coco(folder: Path) -> list[str]:
    images = [dict(id=1, file_name="COCO_val2014_1.jpg"), dict(id=2, file_name="COCO_val2014_2.jpg")]
    annotations = [
        dict(image_id=1, caption="A cat on a red mat."),
        dict(image_id=2, caption="Two dogs run on grass"),
        dict(image_id=1, caption="a cat sits on the mat"),
    ]
    as_json(folder / "annotations" / "captions_val2014.json", {"images": images, "annotations": annotations})
    for row in images:
        picture(folder / "val2014" / str(row["file_name"]))
    return ["a cat on a red mat", "two dogs run on grass"]


def fgqa(folder: Path) -> list[str]:
    row = dict(
        uid="7", qa_uid="q1", video="a.mp4", question="Which hand?", answer="left", answer_index=0,
        options={"option_0": "left", "option_1": "right"}, metadata={},
    )  # fmt: skip
    other = row | dict(uid="8", answer_index=1, options={"option_0": "both", "option_1": "left"})
    as_lines(folder / "fgqa" / "plm_fgqa_test.jsonl", [row, other, row | dict(uid="9", qa_uid="q2")])
    video(folder / "videos" / "a.mp4")
    return ["(A) left", "B", "A"]


def _regions(folder: Path, task: str) -> None:
    row = dict(
        uid=5, video="sav_1.mp4", masklet_id=2, total_frames=FRAMES, caption="A man runs", start_frame=10, end_frame=20
    )
    as_lines(folder / task / f"plm_{task}_test.jsonl", [row, row | dict(uid=6, caption="he stops", start_frame=30)])
    boxes = {str(frame): [10, 12, 30, 40] if frame < 20 else None for frame in range(FRAMES)}
    as_lines(folder / "metadata" / "metadata_test.jsonl", [dict(video="sav_1.mp4", masklet_id=2, bbox=boxes)])
    video(folder / "videos" / "sav_1.mp4")


def rtloc(folder: Path) -> list[str]:
    _regions(folder, "rtloc")
    return ["[8, 16]", "16 to 24"]


def rcap(folder: Path) -> list[str]:
    _regions(folder, "rcap")
    return ["a man runs", "he stops"]


WRITERS: dict[str, Callable[[Path], list[str]]] = {
    "docvqa": docvqa,
    "infographicvqa": infographicvqa,
    "chartqa": chartqa,
    "textvqa": textvqa,
    "vqav2": vqav2,
    "ai2d": ai2d,
    "mvbench": mvbench,
    "perceptiontest": perceptiontest,
    "refcoco": refcoco,
    "coco": coco,
    "fgqa": fgqa,
    "rtloc": rtloc,
    "rcap": rcap,
}
