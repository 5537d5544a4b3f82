"""Questions with options: AI2D, MVBench, Perception Test.

Layouts: AI2D as published (`questions/*.json`, `images`, maybe `ai2d_test_ids.csv`), or a JSONL with image, question,
options and answer (the index) a line, which is how rows of lmms-lab's data sets look once their pictures are files;
MVBench's `json/TASK.json` with video, question, candidates and answer; Perception Test's `mc_question_val.json`, by
video as published or as a list of rows.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from midsight.errors import InputError
from midsight.evaluate.language.local import Media, checked, find_list, read_json, read_lines, right_option
from midsight.evaluate.language.prompts import PROMPTS, Prompt
from midsight.evaluate.language.question import Question

TEXT_OR_NUMBER = (str, int)
CLEVRER, PERCEPTION, STAR = "clevrer/video_validation", "perception/videos", "star/Charades_segment"
# where the videos of MVBench's tasks lie, as published, with clips cut out where the questions are about a part
MVBENCH = {
    "action_antonym": "ssv2_video_mp4",
    "action_count": PERCEPTION,
    "action_localization": "sta/sta_video_segment",
    "action_prediction": STAR,
    "action_sequence": STAR,
    "character_order": PERCEPTION,
    "counterfactual_inference": CLEVRER,
    "egocentric_navigation": "vlnqa",
    "episodic_reasoning": "tvqa/video_fps3_hq_segment",
    "fine_grained_action": "Moments_in_Time_Raw/videos",
    "fine_grained_pose": "nturgbd_convert",
    "moving_attribute": CLEVRER,
    "moving_count": CLEVRER,
    "moving_direction": CLEVRER,
    "object_existence": CLEVRER,
    "object_interaction": STAR,
    "object_shuffle": PERCEPTION,
    "scene_transition": "scene_qa/video",
    "state_change": PERCEPTION,
    "unexpected_action": "FunQA_test/test",
}


def choice(
    id: str, media: Path, question: str, options: list[str], right: int, prompt: Prompt, **extra: Any
) -> Question:
    """A question with options; `extra` goes into the question."""
    text = prompt.ask(question, options)
    return Question(id, (media,), text, (options[right],), tuple(options), {"right": right, **extra})


def ai2d(folder: Path, split: str) -> Iterator[Question]:
    """The published folders where there is one of `questions`, or else a JSONL of the split."""
    if (folder / "questions").is_dir():
        yield from _ai2d_folders(folder, split)
        return
    path = find_list(folder, f"*{split}*.jsonl")
    media = Media(folder, ("", "images"))
    rows = checked(read_lines(path), path, image=str, question=str, options=list, answer=TEXT_OR_NUMBER)
    for number, row in enumerate(rows):
        options = list(map(str, row["options"]))
        right = right_option(row["answer"], options, path, str(number))
        yield choice(str(number), media.find(row["image"]), row["question"], options, right, PROMPTS["ai2d"])


def mvbench(folder: Path, split: str) -> Iterator[Question]:
    """All tasks whose list is there, each a part of its own; the benchmark has one split."""
    del split
    paths = [path for task in MVBENCH if (path := folder / "json" / f"{task}.json").is_file()]
    if not paths:
        raise InputError(f"{folder}: has no list of questions; expected json/{next(iter(MVBENCH))}.json and so on")
    for path in paths:
        rows = read_json(path)
        place = MVBENCH[path.stem]
        media = Media(folder, (f"video/{place}", place, f"video/data0613/{place}"))
        found = checked(rows if isinstance(rows, list) else [rows], path, video=str, question=str, candidates=list)
        for number, row in enumerate(found):
            options = list(map(str, row["candidates"]))
            name = f"{path.stem}-{number}"
            if (answer := str(row.get("answer"))) not in options:
                raise InputError(f"{path}: question {name} has answer {answer!r}, which is none of its candidates")
            right = right_option(options.index(answer), options, path, name)
            video = media.find(row["video"])
            yield choice(name, video, row["question"], options, right, PROMPTS["mvbench"], part=path.stem)


def perceptiontest(folder: Path, split: str) -> Iterator[Question]:
    """`mc_question_val.json`; videos in `videos`."""
    path = find_list(folder, f"mc_question_{split}*.json", f"all_{split}*.json")
    media = Media(folder, ("videos", "video", ""))
    for video, row in _by_video(read_json(path), path):
        options = list(map(str, row["options"]))
        number = row.get("id", row.get("question_id"))
        name = f"{video}-{number}"
        right = right_option(row.get("answer_id"), options, path, name)
        file = media.find(f"{video}.mp4")
        yield choice(name, file, row["question"], options, right, PROMPTS["perceptiontest"], part=row.get("area"))


def _ai2d_folders(folder: Path, split: str) -> Iterator[Question]:
    test = folder / "ai2d_test_ids.csv"
    wanted = set(test.read_text().replace(",", "\n").split()) if split == "test" and test.is_file() else None
    plain, lettered = Media(folder, ("images",)), Media(folder, ("abc_images", "images"))
    for path in sorted((folder / "questions").rglob("*.json")):
        if wanted is not None and path.name.split(".")[0] not in wanted:
            continue
        found = read_json(path)
        if not isinstance(found, Mapping) or not isinstance(found.get("questions"), Mapping):
            raise InputError(f"{path}: has no 'questions'; expected one of AI2D's files of questions")
        entries = found["questions"]
        rows = checked(entries.values(), path, answerTexts=list, questionId=str)
        for question, row in zip(entries, rows, strict=True):
            options = list(map(str, row["answerTexts"]))
            right = right_option(row.get("correctAnswer"), options, path, row["questionId"])
            media = lettered if row.get("abcLabel") else plain
            image = media.find(str(found.get("imageName", path.stem)))
            yield choice(row["questionId"], image, question, options, right, PROMPTS["ai2d"])


def _by_video(found: Any, path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(found, list):
        for row in checked(found, path, video_name=str, question=str, options=list):
            yield row["video_name"], row
        return
    if not isinstance(found, Mapping):
        raise InputError(f"{path}: expected questions by video, or a list of rows")
    for video, entry in found.items():
        (checked_entry,) = checked([entry], path, mc_question=list)
        for row in checked(checked_entry["mc_question"], path, question=str, options=list):
            yield video, row
