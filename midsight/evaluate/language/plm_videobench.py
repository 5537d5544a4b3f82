"""PLM-VideoBench: fine-grained questions (FGQA), when something happens to a region (RTLoc), what does (RCap).

Layout of the published data set: `fgqa/plm_fgqa_test.jsonl` with uid, qa_uid, video, question, options (option_0,
option_1) and answer_index; `rtloc/plm_rtloc_test.jsonl` and `rcap/plm_rcap_test.jsonl` with uid, video, masklet_id,
total_frames, caption, start_frame and end_frame; `metadata/metadata_test.jsonl` with the region's box of each frame.
Videos lie in `videos`; those with regions at 6 frames a second, as the boxes count.
"""

from collections.abc import Iterator
from pathlib import Path

from midsight.errors import InputError
from midsight.evaluate.language.choices import choice
from midsight.evaluate.language.local import Media, Row, checked, find_list, read_lines, right_option
from midsight.evaluate.language.prompts import FRAMES, PROMPTS
from midsight.evaluate.language.question import Question
from midsight.evaluate.metrics.located import Box

Regions = dict[tuple[str, int], dict[int, Box]]  # by video and masklet


def fgqa(folder: Path, split: str) -> Iterator[Question]:
    """Each row is a question with one distractor; rows of one `qa_uid` count together."""
    path = find_list(folder, f"plm_fgqa_{split}.jsonl")
    media = Media(folder, ("videos", "videos/fgqa", ""))
    for row in checked(
        read_lines(path), path, uid=(str, int), qa_uid=(str, int), video=str, question=str, options=dict
    ):
        options = [str(row["options"][key]) for key in sorted(row["options"])]
        index = row.get("answer_index", row.get("answer_idx"))
        right = right_option(index, options, path, str(row["uid"]))
        video = media.find(row["video"])
        yield choice(str(row["uid"]), video, row["question"], options, right, PROMPTS["fgqa"], group=str(row["qa_uid"]))


def rtloc(folder: Path, split: str) -> Iterator[Question]:
    """The answer is a stretch of the 32 frames that the model sees."""
    for row, video, regions in _regions(folder, split, "rtloc"):
        prompt = PROMPTS["rtloc"].ask(row["caption"].strip())
        extra = {"span": _frames(row)}
        yield Question(str(row["uid"]), (video,), prompt, (row["caption"],), extra=extra, regions=regions)


def rcap(folder: Path, split: str) -> Iterator[Question]:
    """What happens to a region within frames of the 32 that the model sees."""
    for row, video, regions in _regions(folder, split, "rcap"):
        start, end = _frames(row)
        prompt = PROMPTS["rcap"].ask(f"[{start}, {end}] in this {row['total_frames']}")
        yield Question(str(row["uid"]), (video,), prompt, (row["caption"],), regions=regions)


def _regions(folder: Path, split: str, task: str) -> Iterator[tuple[Row, Path, dict[int, Box]]]:
    path = find_list(folder, f"plm_{task}_{split}.jsonl")
    boxes = _boxes(find_list(folder, f"metadata_{split}.jsonl"))
    media = Media(folder, ("videos", "videos_fps_6", ""))
    fields = dict.fromkeys(("masklet_id", "total_frames", "start_frame", "end_frame"), int)
    for row in checked(read_lines(path), path, uid=(str, int), video=str, caption=str, **fields):
        key = row["video"], row["masklet_id"]
        if key not in boxes or row["total_frames"] < 1:
            raise InputError(f"{path}: {row['uid']} has no frames, or its region {key} is not in the metadata")
        yield row, media.find(row["video"]), boxes[key]


def _boxes(path: Path) -> Regions:
    found: Regions = {}
    for row in checked(read_lines(path), path, video=str, masklet_id=int, bbox=dict):
        try:
            found[row["video"], row["masklet_id"]] = {
                int(frame): (float(box[0]), float(box[1]), float(box[2]), float(box[3]))
                for frame, box in row["bbox"].items()
                if box
            }
        except (TypeError, ValueError, IndexError) as error:
            raise InputError(f"{path}: a box of {row['video']} is not x0, y0, x1, y1 by frame ({error})") from error
    return found


def _frames(row: Row) -> tuple[int, int]:
    """Start and end, counted in the frames that the model sees; as published."""
    step = row["total_frames"] / FRAMES
    return int(row["start_frame"] / step), int(row["end_frame"] / step)
