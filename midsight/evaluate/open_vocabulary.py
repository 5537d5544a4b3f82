"""Open-vocabulary segmentation, measured: ways to bring tokens to texts, on the same pictures, in one run.

python -m midsight.evaluate.open_vocabulary --scenes runs/spatial/test --packages runs/embedded/data

Two kinds of pictures: rendered scenes of furniture that training did not see, and composites of real cut-out
photographs. Three questions to each: which of the picture's own names (pixels of things, mean of the pictures' mIoU,
where there are two names or more); which of all names of the set (pixels of things, mIoU over the whole set); and the
picture's own names with the background (all pixels, mean of the pictures' mIoU).
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from midsight.api import Perception, dense_encoder, load
from midsight.api.by_labels import things_head
from midsight.data.composites import CompositeConfig, composites, packaged_parts
from midsight.errors import InputError, MidsightError
from midsight.evaluate.metrics.bootstrap import bootstrap
from midsight.evaluate.scene_probes import read_scenes
from midsight.images import Pixels
from midsight.tasks.segmentation import OpenSegmenter, usual_config
from midsight.tasks.windows import enlarge

Floats = npt.NDArray[np.float64]
Classes = npt.NDArray[np.int64]
Maps = tuple[Tensor, Tensor | None]  # as `OpenSegmenter.maps`
QUESTIONS = ("own names", "all names", "own names and background")


@dataclass(frozen=True)
class Named:
    """A picture and what each pixel shows."""

    pixels: Pixels  # uint8 (H, W, 3)
    classes: Classes  # (H, W): 0 for the background, else a place in `names`, from 1
    names: tuple[str, ...]


@dataclass(frozen=True)
class Way:
    """One way to segment."""

    title: str
    segmenter: OpenSegmenter  # of all names of the set, then of the words of the background
    headed: bool = False  # whether its head says where the background is, instead of the words


class Naive(OpenSegmenter):
    """The baseline: tokens through the final norm and the projection alone."""

    def embed(self, tokens: Tensor, weights: Tensor | None) -> Tensor:
        tower = self.encoder.tower
        return tower.ln_post(tokens) @ tower.proj


def ways(model: Perception, spatial: Perception | None, names: Sequence[str]) -> list[Way]:
    """The ways that are compared, from the plainest to what `open_vocabulary` does."""
    encoder = dense_encoder(model)
    usual = usual_config(encoder)
    single = replace(usual, scales=(1.0,))
    words = [word for word in usual.surroundings if word not in names]
    labels = [*names, *words]
    texts = torch.from_numpy(model.embed_texts(labels, usual.templates))
    found = [
        Way("naive, one size", Naive(encoder, labels, texts, config=single)),
        Way("naive, all sizes", Naive(encoder, labels, texts, config=usual)),
        Way("pooling's values, one size", OpenSegmenter(encoder, labels, texts, config=single)),
        Way("pooling's values, all sizes", OpenSegmenter(encoder, labels, texts, config=usual)),
    ]
    if spatial is None:
        return found
    other = dense_encoder(spatial)
    head = things_head(spatial)
    both = OpenSegmenter(encoder, labels, texts, stuff=words, head=head, spatial=other, config=usual)
    found.append(Way("values weighted by spatial tokens", both))
    return found if head is None else [*found, Way("the same and the head for things", both, headed=True)]


def scenes(path: Path) -> Iterator[Named]:
    """Pictures of shards of the scene engine; objects of one name are one class."""
    for scene in read_scenes(path):
        names = tuple(sorted(set(scene.names.values())))
        table = np.zeros(256, np.int64)
        for number, name in scene.names.items():
            table[number] = names.index(name) + 1
        yield Named(scene.pixels, table[scene.ids], names)


def pasted(root: Path, count: int, config: CompositeConfig, seed: int = 0) -> Iterator[Named]:
    """Composites of packaged photographs."""
    for one in composites(*packaged_parts(root, config), count, seed, config):
        yield Named(one.pixels, one.ids.astype(np.int64), one.names)


def measure(
    pictures: Sequence[Named], names: Sequence[str], given: Sequence[Way]
) -> Mapping[str, tuple[Floats, Floats, Floats]]:
    """The figures of each question, in percent: value, 2.5th and 97.5th percentile, each (ways,).

    Args:
        names: all of the set, as the ways were made for.

    Raises:
        InputError: no picture with two names.
    """
    if not any(len(one.names) > 1 for one in pictures):
        raise InputError("there is nothing to measure: no picture shows things of two names")
    rows: dict[str, list[list[Floats]]] = {question: [[] for _ in given] for question in QUESTIONS}
    for one in pictures:
        seen: dict[int, Maps] = {}  # by segmenter: two ways may share one
        for number, way in enumerate(given):
            if id(way.segmenter) not in seen:
                seen[id(way.segmenter)] = way.segmenter.maps(one.pixels)
            maps = seen[id(way.segmenter)]
            for question, figures in answers(one, names, maps, way.headed).items():
                rows[question][number].append(figures)
    return {question: bootstrap(np.array(own), _figure(question)) for question, own in rows.items()}


def answers(one: Named, names: Sequence[str], maps: Maps, headed: bool) -> dict[str, Floats]:
    """What one picture adds to each question."""
    cosines, thing = maps
    size = one.classes.shape
    own = [names.index(name) for name in one.names]
    large = enlarge(cosines[:, own], size)[0]  # own names, H, W
    if headed and thing is not None:
        behind = enlarge(thing, size)[0, 0] < 0
    else:
        behind = enlarge(cosines[:, len(names) :].amax(dim=1, keepdim=True), size)[0, 0] > large.amax(dim=0)
    best = large.argmax(dim=0) + 1
    things, table = one.classes > 0, np.array([0, *(place + 1 for place in own)])
    among = enlarge(cosines[:, : len(names)], size)[0].argmax(dim=0).numpy() + 1
    found = {
        "all names": _counts(among[things], table[one.classes[things]], len(names)),
        "own names and background": _picture(torch.where(behind, 0, best).numpy(), one.classes),
    }
    if len(own) > 1:
        found["own names"] = _picture(best.numpy()[things], one.classes[things])
    return found


def table(title: str, pictures: int, found: Mapping[str, tuple[Floats, Floats, Floats]], given: Sequence[Way]) -> str:
    """Markdown, a row for each way."""
    lines = [f"| {title}, {pictures} pictures | " + " | ".join(QUESTIONS) + " |", "|---" * (len(QUESTIONS) + 1) + "|"]
    for number, way in enumerate(given):
        cells = (f"{v[number]:.1f} ({low[number]:.1f} to {high[number]:.1f})" for v, low, high in found.values())
        lines.append(f"| {way.title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _picture(found: Classes, truth: Classes) -> Floats:
    """mIoU over the classes that a picture shows, (1,)."""
    shares = [((found == k) & (truth == k)).sum() / ((found == k) | (truth == k)).sum() for k in np.unique(truth)]
    return np.array([np.mean(shares)])


def _counts(found: Classes, truth: Classes, classes: int) -> Floats:
    """Pixels that are right, that are found and that are there, of each class: (3 * classes,)."""
    parts = (truth[found == truth], found, truth)
    return np.concatenate([np.bincount(part.ravel(), minlength=classes + 1)[1:] for part in parts]).astype(np.float64)


def _figure(question: str) -> Callable[[Floats], Floats]:
    if question != "all names":
        return lambda means: 100 * means[..., 0]

    def mean_iou(means: Floats) -> Floats:
        right, found, there = np.split(means, 3, axis=-1)
        union = found + there - right
        return 100 * np.nanmean(np.where(there > 0, right / np.where(union > 0, union, 1), np.nan), axis=-1)

    return mean_iou


def main() -> int:
    """Exit code: 0, or 1 where pictures or models cannot be had."""
    parser = argparse.ArgumentParser(
        "python -m midsight.evaluate.open_vocabulary", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--scenes", type=Path, default=Path("runs/spatial/test"), help="shards of the scene engine")
    parser.add_argument("--packages", type=Path, default=Path("runs/embedded/data"), help="packaged open data")
    parser.add_argument("--count", type=int, default=200, help="pictures of each kind")
    parser.add_argument("--model", default=None, help="a PE-Core; the embedded one if left out")
    parser.add_argument("--spatial", default=None, help="another spatial encoder than the embedded one")
    given = parser.parse_args()
    try:
        sets: list[tuple[str, Iterable[Named]]] = [
            ("scenes", islice(scenes(given.scenes), given.count)),
            ("composites", pasted(given.packages, given.count, CompositeConfig())),
        ]
        model = load(given.model, device="cpu")
        name = given.spatial or ("embedded-spatial" if given.model is None else None)
        spatial = None if name is None else load(name, device="cpu")
        for title, pictures in sets:
            read = [one for one in pictures if one.names]
            names = sorted({name for one in read for name in one.names})
            tried = ways(model, spatial, names)
            sys.stdout.write(table(title, len(read), measure(read, names, tried), tried) + "\n\n")
            sys.stdout.flush()
    except MidsightError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
