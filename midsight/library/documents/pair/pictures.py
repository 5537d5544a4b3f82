"""Training rows of pictures without pages: drawings by name, rendered scenes by caption, clips as frames."""

import json
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from midsight.data import packaged
from midsight.data.crops import CropMixer, Mixture
from midsight.library.documents.pair.recipe import PairRecipe
from midsight.library.documents.pair.rows import write_small
from midsight.library.documents.prompts import BRIEFLY
from midsight.video import sample_frames

_NAME = ("What is this?", "What does the picture show?", "Name what you see.", "What is in the picture?")
_CAPTION = ("Describe the picture.", "What can be seen here?", "Caption this picture.", "What does the picture show?")
_WATCH = ("Describe the video.", "What happens?", "What does the video show?")
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def drawing_rows(root: Path, out: Path, recipe: PairRecipe) -> Iterator[dict[str, Any]]:
    """Named drawings on plain grounds and on photographs; names only where one is known.

    Args:
        root: where packages are unpacked.
    """
    drawings = [drawing for drawing in packaged.training_drawings(root) if drawing.captions]
    mixture = Mixture(size=recipe.small, drawings=1.0)
    mixer = CropMixer(packaged.photographs(root), packaged.textures(root), drawings, mixture, recipe.seed)
    for number in range(recipe.drawings):
        sample, rng = mixer.sample(number), np.random.default_rng((recipe.seed, 2, number))
        name = f"pictures/drawing-{number:05d}.webp"
        write_small(Image.fromarray(sample.pixels), out / name, recipe.small, 60)
        asked = f"{_pick(_NAME, rng)}\n{BRIEFLY}"
        yield _row(f"drawing-{number:05d}", name, [(asked, drawings[sample.drawing].captions[0])])


def scene_rows(shards: Path, out: Path, recipe: PairRecipe) -> Iterator[dict[str, Any]]:
    """Captions and counts of rendered scenes.

    Args:
        shards: folder of the scene engine's pictures.
    """
    for number, (key, files) in enumerate(_samples(shards, recipe.scenes)):
        rng, truth = np.random.default_rng((recipe.seed, 3, number)), json.loads(files["json"].read())
        name = f"pictures/scene-{key}.webp"
        with Image.open(files["jpg"]) as image:
            write_small(image, out / name, recipe.small, 60)
        turns = [(_pick(_CAPTION, rng), truth["captions"][-1])]
        counted = Counter(one["name"] for one in truth["objects"] if one["share_seen"] > 0.3)
        for what, many in list(counted.items())[:2]:
            turns.append((f"How many objects of the kind {what} are there?\n{BRIEFLY}", _NUMBERS[min(many, 10)]))
        for one in truth["objects"][:2]:
            if counted[one["name"]] == 1 and one["colour"]:
                turns.append((f"What colour is the {one['name']}?\n{BRIEFLY}", one["colour"]))
        yield _row(f"scene-{key}", name, [turns[n] for n in rng.permutation(len(turns))])


def clip_rows(shards: Path, out: Path, recipe: PairRecipe) -> Iterator[dict[str, Any]]:
    """Captions of rendered clips, shown as frames."""
    for number, (key, files) in enumerate(_samples(shards, recipe.clips)):
        rng, truth = np.random.default_rng((recipe.seed, 4, number)), json.loads(files["json"].read())
        names = [f"pictures/clip-{key}-{frame}.webp" for frame in range(recipe.frames)]
        with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
            file.write(files["mp4"].read())
            file.flush()
            frames = sample_frames(file.name, recipe.frames).frames
        for name, frame in zip(names, frames, strict=True):
            write_small(Image.fromarray(frame), out / name, recipe.small, 60)
        asked = "<image>" * len(names) + _pick(_WATCH, rng)
        turns = [{"from": "human", "value": asked}, {"from": "assistant", "value": truth["captions"][-1]}]
        yield {"id": f"clip-{key}", "image": names, "conversations": turns}


def _samples(shards: Path, most: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Samples of tar files in order: key, and its files by suffix, open while they are looked at."""
    done = 0
    for shard in sorted(shards.glob("*.tar")):
        with tarfile.open(shard) as tar:
            files: dict[str, dict[str, tarfile.TarInfo]] = {}
            for member in tar.getmembers():
                key, _, suffix = member.name.partition(".")
                files.setdefault(key, {})[suffix] = member
            for key, members in files.items():
                if done == most:
                    return
                opened = {
                    suffix: tar.extractfile(m) for suffix, m in members.items() if suffix in ("jpg", "json", "mp4")
                }
                yield key, opened
                done += 1


def _row(key: str, picture: str, turns: list[tuple[str, str]]) -> dict[str, Any]:
    conversations = []
    for asked, answer in turns:
        conversations += [{"from": "human", "value": asked}, {"from": "assistant", "value": answer}]
    return {"id": key, "image": picture, "conversations": conversations}


def _pick(texts: tuple[str, ...], rng: np.random.Generator) -> str:
    return texts[rng.integers(len(texts))]
