"""Drawn shapes in COCO's format, with masks, for tests of detector finetuning."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

IDS = {"ellipse": 3, "rectangle": 8}  # category ids with a gap
COLOURS = {"ellipse": (220, 60, 40), "rectangle": (50, 90, 230)}


def write_shapes(folder: Path, count: int = 6, seed: int = 0, side: int = 96) -> Path:
    """`count` pictures of one to three shapes each; returns the annotation file, beside which the pictures lie."""
    dice = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(1, count + 1):
        width, height = side, int(side * dice.uniform(0.7, 1))
        noise = dice.integers(90, 130, (height, width, 3), dtype=np.uint8)
        picture = Image.fromarray(noise)
        pen = ImageDraw.Draw(picture)
        for cell in dice.permutation(4)[: dice.integers(1, 4)]:
            kind = "ellipse" if dice.random() < 0.5 else "rectangle"
            left, top = (cell % 2) * width // 2, (cell // 2) * height // 2
            x1, y1 = left + dice.integers(2, 10), top + dice.integers(2, 8)
            x2, y2 = left + width // 2 - dice.integers(2, 12), top + height // 2 - dice.integers(2, 8)
            getattr(pen, kind)((int(x1), int(y1), int(x2) - 1, int(y2) - 1), fill=COLOURS[kind])
            annotations.append(_annotation(len(annotations) + 1, number, kind, *map(int, (x1, y1, x2, y2))))
        picture.save(folder / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "height": height, "width": width})
    categories = [{"id": id_, "name": name} for name, id_ in IDS.items()]
    path = folder / "annotations.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def _annotation(id_: int, image: int, kind: str, x1: int, y1: int, x2: int, y2: int) -> dict[str, Any]:
    if kind == "rectangle":
        polygon = [x1, y1, x2, y1, x2, y2, x1, y2]
    else:
        angles = np.linspace(0, 2 * np.pi, 33)[:-1]
        x, y = (x1 + x2) / 2 + (x2 - x1) / 2 * np.cos(angles), (y1 + y2) / 2 + (y2 - y1) / 2 * np.sin(angles)
        polygon = np.stack((x, y), 1).flatten().round(2).tolist()
    box = [x1, y1, x2 - x1, y2 - y1]
    return {"id": id_, "image_id": image, "category_id": IDS[kind], "bbox": box, "segmentation": [polygon],
            "area": (x2 - x1) * (y2 - y1), "iscrowd": 0}  # fmt: skip
