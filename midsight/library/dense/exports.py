"""All detections of a job as files for other programs: COCO, YOLO, Label Studio; and back as tensors.

What is kept of each picture or frame (an *entry*): file_name, path, width, height, name; of a video's frame also video,
frame and time; and its detections, in COCO's terms and with the label.
"""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import torch
from torch import Tensor

from midsight.data.coco import decode_mask
from midsight.errors import InputError
from midsight.files import StrPath, atomic_write
from midsight.library.dense.drawn import frame_name, place
from midsight.library.dense.plan import Item
from midsight.tasks.detection.formats import to_coco, to_label_studio, to_yolo
from midsight.video import TimedFrame

LABELS, IMAGES = "labels", "images"
Found = dict[str, Tensor]
Entry = dict[str, Any]


def entry_of(item: Item, frame: TimedFrame, found: Found, category_ids: Sequence[int]) -> Entry:
    """What is kept of one picture or frame."""
    height, width = frame.pixels.shape[:2]
    entry: Entry = {"file_name": item.file_name, "path": item.key, "width": width, "height": height, "name": item.name}
    if item.kind != "picture":
        entry |= {"file_name": frame_name(IMAGES, item, frame, ".jpg"), "name": f"{item.name}/{frame.index:06}"}
        entry |= {"video": item.file_name, "frame": frame.index, "time": round(frame.time, 6)}
    results = to_coco(found, 0, category_ids)
    for result, label in zip(results, found["labels"].tolist(), strict=True):
        result |= {"label": label, "bbox": [round(v, 3) for v in result["bbox"]], "score": round(result["score"], 6)}
        del result["image_id"]
    if "masks" in found:
        areas = (found["masks"][:, 0] >= 0.5).sum(dim=(1, 2)).tolist()
    else:
        areas = [round(result["bbox"][2] * result["bbox"][3], 3) for result in results]
    entry["found"] = [result | {"area": area, "iscrowd": 0} for result, area in zip(results, areas, strict=True)]
    return entry


@dataclass(frozen=True)
class Collected:
    """The entries of all inputs, read from the disk each time that they are gone through."""

    files: Sequence[Path]  # a line of JSON for each entry
    names: Sequence[str]  # of classes, by label
    category_ids: Sequence[int]

    def __iter__(self) -> Iterator[Entry]:
        for path in self.files:
            with open(path, "rb") as file:
                yield from map(json.loads, file)


def write_coco(path: StrPath, entries: Collected) -> None:
    """Images, annotations and categories in one file, COCO's format of annotations with a score for each.

    Raises:
        OutputError: it cannot be written; what was there before is intact.
    """
    pairs = zip(entries.category_ids, entries.names, strict=True)
    categories = [{"id": id_, "name": name} for id_, name in pairs]
    with atomic_write(path) as file:
        file.write(b'{"info": {"description": "detections by midsight"},\n"categories": ')
        file.write(json.dumps(categories).encode() + b',\n"images": [')
        for number, entry in enumerate(entries, start=1):
            image = {"id": number, **{key: value for key, value in entry.items() if key not in ("found", "name")}}
            file.write((b",\n" if number > 1 else b"\n") + json.dumps(image).encode())
        file.write(b'],\n"annotations": [')
        annotation = 0
        for number, entry in enumerate(entries, start=1):
            for found in entry["found"]:
                annotation += 1
                line = {"id": annotation, "image_id": number, **{k: v for k, v in found.items() if k != "label"}}
                file.write((b",\n" if annotation > 1 else b"\n") + json.dumps(line).encode())
        file.write(b"]}\n")


def write_yolo(out: Path, entries: Collected) -> None:
    """labels/NAME.txt for each entry, images/NAME beside them (links to the pictures, or copies), and data.yaml.

    Raises:
        OutputError: a file cannot be written.
    """
    for entry in entries:
        lines = to_yolo(tensors_of(entry), (entry["height"], entry["width"]))
        with atomic_write(place(out, f"{LABELS}/{entry['name']}.txt")) as file:
            file.write("".join(f"{line}\n" for line in lines).encode())
        if "video" not in entry:
            _link(Path(entry["path"]), place(out, f"{IMAGES}/{entry['name']}{Path(entry['path']).suffix.lower()}"))
    names = "".join(f"  {label}: {json.dumps(name)}\n" for label, name in enumerate(entries.names))
    text = f"path: {json.dumps(str(out.resolve()))}\ntrain: {IMAGES}\nval: {IMAGES}\nnames:\n{names}"
    with atomic_write(out / "data.yaml") as file:
        file.write(text.encode())


def write_label_studio(out: Path, entries: Collected) -> None:
    """label_studio.json, tasks with predictions, and label_studio.xml, the labelling setup that they fit.

    Pictures are named as Label Studio's local files, with the root of the disk as document root.

    Raises:
        OutputError: a file cannot be written.
    """
    with atomic_write(out / "label_studio.json") as file:
        file.write(b"[")
        for number, entry in enumerate(entries):
            path = str((out / entry["file_name"]).resolve()) if "video" in entry else entry["path"]
            data = {"image": f"/data/local-files/?d={quote(Path(path).as_posix().lstrip('/'))}"}
            data |= {key: entry[key] for key in ("video", "frame", "time") if key in entry}
            size = entry["height"], entry["width"]
            task = {"data": data, "predictions": [to_label_studio(tensors_of(entry), size, entries.names)]}
            file.write((b",\n" if number else b"\n") + json.dumps(task).encode())
        file.write(b"]\n")
    values = "".join(f'    <Label value="{_attribute(name)}"/>\n' for name in entries.names)
    setup = (
        '<View>\n  <Image name="image" value="$image"/>\n'
        f'  <RectangleLabels name="label" toName="image">\n{values}  </RectangleLabels>\n</View>\n'
    )
    with atomic_write(out / "label_studio.xml") as file:
        file.write(setup.encode())


def read_detections(path: StrPath) -> Iterator[tuple[Entry, Found]]:
    """A job's detections.json as the detectors' own results, for instance for `to_supervision`.

    Yields:
        For each picture or frame, its entry of `images`, and boxes (N, 4), scores (N,), labels (N,), which are places
        in the file's `categories`, and masks (N, 1, H, W) where the detector gave some.

    Raises:
        InputError: not such a file.
    """
    try:
        content = json.loads(Path(path).read_bytes())
        places = {category["id"]: label for label, category in enumerate(content["categories"])}
        found: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in content["images"]}
        for entry in content["annotations"]:
            found[entry["image_id"]].append(entry | {"label": places[entry["category_id"]]})
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: is no file of detections ({type(error).__name__}: {error})") from error
    for image in content["images"]:
        tensors = tensors_of(image | {"found": found[image["id"]]})
        if found[image["id"]] and all("segmentation" in entry for entry in found[image["id"]]):
            size = image["height"], image["width"]
            masks = [decode_mask(entry["segmentation"], *size, str(path)) for entry in found[image["id"]]]
            tensors["masks"] = torch.from_numpy(np.stack(masks))[:, None]
        yield image, tensors


def tensors_of(entry: Entry) -> Found:
    """Boxes, scores and labels of an entry."""
    found = entry["found"]
    boxes = torch.tensor([one["bbox"] for one in found], dtype=torch.float32).reshape(-1, 4)
    return {
        "boxes": torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1),
        "scores": torch.tensor([one["score"] for one in found], dtype=torch.float32),
        "labels": torch.tensor([one["label"] for one in found], dtype=torch.int64),
    }


def _link(picture: Path, link: Path) -> None:
    """The picture at another place, as a link, or as a copy where the system has no links."""
    if os.path.lexists(link):
        return
    try:
        link.symlink_to(picture)
    except OSError:
        if picture.is_file():
            shutil.copyfile(picture, link)


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
