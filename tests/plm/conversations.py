"""Files of questions and answers with small pictures and a clip, for tests of training."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

MEDIA = Path(__file__).parents[1] / "media"
COLOURS = {"red": (220, 30, 30), "green": (30, 180, 30), "blue": (30, 30, 220), "white": (240, 240, 240)}


def write_rows(path: Path, rows: list[Any]) -> Path:
    """One JSON object a line; texts are written as they are, for lines that are no JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def question(asked: str, answered: str, **more: Any) -> dict[str, Any]:
    """A row of one question and its answer."""
    turns = [{"from": "human", "value": asked}, {"from": "assistant", "value": answered}]
    return {"conversations": turns, **more}


def picture(path: Path, colour: str, size: tuple[int, int] = (60, 40)) -> Path:
    """A picture of one colour with a little noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(path.name)).integers(-12, 12, (size[1], size[0], 3))
    Image.fromarray(np.clip(np.array(COLOURS[colour]) + noise, 0, 255).astype(np.uint8)).save(path)
    return path


def coloured(folder: Path, count: int = 12, name: str = "rows") -> Path:
    """Pictures of one colour each, with the question for it; rows of every length."""
    rows = []
    for index in range(count):
        colour = list(COLOURS)[index % len(COLOURS)]
        picture(folder / f"{index}.png", colour, (60, 40) if index % 3 else (120, 56))
        rows.append(question("What colour? " + "really " * (index % 4), colour, image=f"{index}.png"))
    return write_rows(folder / f"{name}.jsonl", rows)
