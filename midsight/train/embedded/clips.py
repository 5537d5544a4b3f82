"""The embedded model on clips: encoded video files, eight frames of each averaged, beside the middle one alone.

Furniture: rendered clips of one thing each, with a camera or a thing that moves, of furniture that the model has never
seen (`held_out`), before plain patterns. Photographs: a camera moves over each everyday photograph. Directions: which
of a motion and its opposite the model finds in the clip. An average over frames does not know their order, so a clip
and the same clip played backwards are one to it.
"""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from midsight.api import Perception
from midsight.data import packaged
from midsight.data.moves import WINDOW_MOVES, move_over
from midsight.data.scenes import FurnitureModel, SceneEngine, SceneOptions, Stock
from midsight.data.scenes.camera import MOVES
from midsight.data.scenes.layout import MOTIONS, Scene
from midsight.errors import InputError, MediaError
from midsight.evaluate.open_moji import Figure
from midsight.images import Pixels, load_image
from midsight.train.embedded.figures import BASELINE_SIZES, classifier_answers, figure, hits_among, likeness
from midsight.train.embedded.held_out import unseen_furniture
from midsight.train.embedded.recipe import Recipe
from midsight.video import sample_frames, write_video

FRAMES, LENGTH, RATE, LONGEST = 8, 16, 8, 288  # looked at; of a file; a second; pixels of the longer side
OF_EACH = 4  # clips of each piece of furniture
SCENES = SceneOptions(size=LONGEST, most_objects=1, painted=0.0, twins=0.0, frames=LENGTH, frame_rate=RATE)
_SEED = 31
# each motion beside its opposite, as `MOVES` and `MOTIONS` call them
_OPPOSITES = (
    ("pan left", "pan right"), ("tilt up", "tilt down"), ("orbit left", "orbit right"), ("track left", "track right"),
    ("closer", "away"), ("rise", "sink"), ("zoom in", "zoom out"),
)  # fmt: skip
_OPPOSITE_MOTIONS = (("left", "right"), ("nearer", "away"))


@dataclass(frozen=True)
class LabelledClip:
    """A video file and what is known of it."""

    path: Path
    name: str
    kind: str  # a broad name; that of furniture is its name
    thing: int  # clips of one thing are alike
    told: tuple[str, str] | None = None  # what moves how, in words, and its opposite
    move: str = ""  # of the window


@dataclass(frozen=True)
class Embedded:
    """Unit embeddings (N, D) of clips."""

    means: Tensor  # of eight frames
    middles: Tensor  # of the middle one of them


def evaluate(model: Perception, root: Path, recipe: Recipe) -> Iterator[Figure]:
    """All figures of clips, in the card's order.

    Args:
        root: where data packages are kept.
        recipe: of the model, which tells what it was trained on.

    Raises:
        InputError: a package cannot be had.
        MissingDependencyError: nothing can be rendered on this machine.
    """
    with tempfile.TemporaryDirectory() as folder:
        models = unseen_furniture(root, recipe)
        rendered = list(furniture_clips(models, Path(folder)))
        seen = embed(model, rendered)
        yield from named(f"clips of {_things(rendered)} pieces of unseen furniture", model, rendered, seen, root)
        yield directions("the same clips", model, rendered, seen)
    with tempfile.TemporaryDirectory() as folder:
        panned = list(photograph_clips(packaged.everyday(root), Path(folder)))
        seen = embed(model, panned)
        yield from named("clips of everyday photographs", model, panned, seen, root, broad=True)
        yield moves("the same clips", model, panned, seen)
        yield directions("the same clips", model, panned, seen)


def furniture_clips(
    models: Sequence[FurnitureModel], folder: Path, options: SceneOptions = SCENES, of_each: int = OF_EACH
) -> Iterator[LabelledClip]:
    """Rendered clips of one thing each; models that cannot be drawn are passed over.

    Floors, walls and skies are drawn patterns: the pictures that scenes can have there trained the embedded model.

    Raises:
        InputError: not one of them can be drawn.
    """
    made = 0
    for number, model in enumerate(models):
        with SceneEngine(Stock((model,)), options, _SEED + number) as engine:
            for index in range(of_each):
                try:
                    clip = engine.clip(index)
                except MediaError:
                    continue
                path = folder / f"{number:04d}-{index}.mp4"
                _write(path, (frame.rgb for frame in clip.frames))
                made += 1
                yield LabelledClip(path, model.name, model.name, number, told(clip.scene))
    if not made:
        raise InputError(f"none of {len(models)} pieces of furniture could be drawn")


def photograph_clips(
    pictures: Sequence[packaged.Everyday], folder: Path, longest: int = LONGEST
) -> Iterator[LabelledClip]:
    """A camera moves over each photograph, one move after the other in turn."""
    for number, picture in enumerate(pictures):
        move, path = WINDOW_MOVES[number % len(WINDOW_MOVES)], folder / f"{number:04d}.mp4"
        _write(path, move_over(load_image(picture.path), move, LENGTH, longest))
        yield LabelledClip(path, picture.name, picture.kind, number, _in_words(move), move)


def told(scene: Scene) -> tuple[str, str] | None:
    """What moves how, and the opposite; None where nothing has a direction, or camera and thing both move."""
    (thing,) = scene.objects
    if scene.move != "still":
        return None if thing.motion else _in_words(scene.move)
    if thing.motion is None or (other := _opposite(thing.motion, _OPPOSITE_MOTIONS)) is None:
        return None
    return tuple(MOTIONS[way].format(f"the {thing.model.name}") for way in (thing.motion, other))  # type: ignore[return-value]


def embed(model: Perception, clips: Sequence[LabelledClip]) -> Embedded:
    """The files as `Perception.embed_videos` sees them, and the middle one of the same frames."""
    paths = [clip.path for clip in clips]
    middles = (sample_frames(path, FRAMES).frames[FRAMES // 2] for path in paths)
    return Embedded(
        torch.from_numpy(model.embed_videos(paths, num_frames=FRAMES)), torch.from_numpy(model.embed_images(middles))
    )


def named(
    title: str,
    model: Perception,
    clips: Sequence[LabelledClip],
    seen: Embedded,
    root: Path,
    broad: bool = False,
) -> Iterator[Figure]:
    """Zero-shot over all names, and over the broad ones if asked: the mean, the middle frame, the baseline."""
    answers = {size: baseline(clips, root, size) for size in BASELINE_SIZES}
    things = np.array([clip.thing for clip in clips])
    kinds = [("names", [c.name for c in clips])] + ([("broad names", [c.kind for c in clips])] if broad else [])
    for what, own in kinds:
        labels = sorted(set(own))
        target = torch.tensor([labels.index(label) for label in own])
        texts = torch.from_numpy(model.embed_texts(labels, "photo")).T
        alike = likeness(labels, root)
        for k in (1, 5):
            mean, middle = (hits_among(images @ texts, target, k) for images in (seen.means, seen.middles))
            peers = {size: hits_among(answer @ alike, target, k) for size, answer in answers.items()}
            size = max(peers, key=lambda size: float(peers[size].double().mean()))
            row = f"{title}, {len(labels)} {what}, top-{k}"
            yield figure(row, mean, things, k / len(labels))
            yield figure(f"{row}: the middle frame alone", middle, things, k / len(labels))
            yield figure(f"{row}: more than the middle frame", mean.double() - middle.double(), things, 0.0)
            yield figure(f"{row}: baseline at {size} px", peers[size], things, k / len(labels))
            yield figure(f"{row}: more than the baseline", mean.double() - peers[size].double(), things, 0.0)


def baseline(clips: Sequence[LabelledClip], root: Path, size: int) -> Tensor:
    """Mean probabilities (N, 1000) of the trunk's own classifier over the same eight frames."""
    frames = (frame for clip in clips for frame in sample_frames(clip.path, FRAMES).frames)
    return classifier_answers(frames, root, size).unflatten(0, (-1, FRAMES)).mean(1)


def directions(title: str, model: Perception, clips: Sequence[LabelledClip], seen: Embedded) -> Figure:
    """How often the words of a motion fit better than those of its opposite; half is chance."""
    rows = [(number, clip.told) for number, clip in enumerate(clips) if clip.told is not None]
    right, wrong = (torch.from_numpy(model.embed_texts([words[side] for _, words in rows])) for side in (0, 1))
    images = seen.means[[number for number, _ in rows]]
    better = (images * right).sum(-1) > (images * wrong).sum(-1)
    things = np.array([clips[number].thing for number, _ in rows])
    return figure(f"{title}: a motion or its opposite", better, things, 0.5)


def moves(title: str, model: Perception, clips: Sequence[LabelledClip], seen: Embedded) -> Figure:
    """Which of the window's moves it is, in words."""
    texts = torch.from_numpy(model.embed_texts([MOVES[move] for move in WINDOW_MOVES])).T
    target = torch.tensor([WINDOW_MOVES.index(clip.move) for clip in clips])
    hits = hits_among(seen.means @ texts, target, 1)
    things = np.array([clip.thing for clip in clips])
    return figure(f"{title}: which of {len(WINDOW_MOVES)} camera moves", hits, things, 1 / len(WINDOW_MOVES))


def _write(path: Path, frames: Iterable[Pixels]) -> None:
    with write_video(path) as video:
        for number, frame in enumerate(frames):
            video.add(frame, number / RATE, (number + 1) / RATE)


def _in_words(move: str) -> tuple[str, str]:
    other = _opposite(move, _OPPOSITES)
    assert other is not None  # every move has one
    return MOVES[move], MOVES[other]


def _opposite(way: str, pairs: Sequence[tuple[str, str]]) -> str | None:
    return next((pair[1 - pair.index(way)] for pair in pairs if way in pair), None)


def _things(clips: Sequence[LabelledClip]) -> int:
    return len({clip.thing for clip in clips})
