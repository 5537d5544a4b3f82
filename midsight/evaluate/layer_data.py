"""What a sweep over layers can be measured on: a user's own data, in the layouts that the rest of midsight reads.

- Classes: one folder of pictures for each class (or `train` and `val` with such folders), shards and tables with
  labels, or COCO's annotations, where a picture counts as its largest object by the area of its box. One class for a
  picture keeps every task with classes alike; a picture without objects is left out.
- Pairs: pictures with captions.
- Dense: images with masks, images with depth, as `midsight train segment` and `train depth` read them.

Where a set has no validation part of its own, a share is held out by content, so the same pictures in every run, and
copies of one picture stay on one side.
"""

import hashlib
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from midsight.data.coco import CocoImage, read_coco
from midsight.data.datasets import Dataset, open_dataset
from midsight.data.depth import DepthFiles, DepthSet, has_depth, open_depth
from midsight.data.pairs import Pair
from midsight.data.samples import BadSample, Sample
from midsight.data.segmentation import LabelConfig, SegmentationSet, has_segmentation, open_segmentation
from midsight.data.splits import content_of, held_contents, split
from midsight.data.stream import Order
from midsight.errors import InputError
from midsight.files import content_hash

DenseSet = SegmentationSet | DepthSet
_TRAINING, _VALIDATION = ("train", "training"), ("val", "validation", "valid")


@dataclass(frozen=True)
class ClassSet:
    """Pictures, each with one class or one caption; the first ones are trained on.

    Attributes:
        names: of the classes, or all captions that there are, each once.
        labels: of each sample, into `names`.
        training: how many of the samples are trained on; the others are measured.
        left_out: what cannot be used, by reason.
    """

    samples: tuple[Sample, ...]
    names: tuple[str, ...]
    labels: tuple[int, ...]
    training: int
    classes: bool  # else captions
    left_out: dict[str, int]

    @property
    def key(self) -> str:
        """Another one for other pictures."""
        return _digest([(sample.key, sample.media) for sample in self.samples])


def class_set(data: Path, share: float, images: Path | None = None, classes: bool = True) -> ClassSet:
    """Pictures with classes, or (`classes` False) with classes or captions.

    Args:
        data: a folder, a shard, a table, or COCO's annotations (.json).
        share: to hold out where there is no validation part.
        images: folder that the file names of COCO's annotations are relative to; by default that of the annotations.

    Raises:
        InputError: no such data, one class only, captions where classes are needed, nothing to measure on.

    Warns:
        UserWarning: classes of one picture, which is trained on and not measured.
    """
    if data.suffix.lower() == ".json" and data.is_file():
        return _of_coco(data, images or data.parent, share)
    parts = [_part(data, names) for names in (_TRAINING, _VALIDATION)]
    if parts[0] is not None and parts[1] is not None:
        return _together(open_dataset(parts[0], evaluation=True), open_dataset(parts[1], evaluation=True), classes)
    dataset = open_dataset(data, evaluation=True)
    if not dataset.classes:
        _wants_captions(data, classes)
        return _together(dataset, None, classes)
    found = split(dataset, share)
    _tell_alone(data, found.alone)
    return _together(found.train, found.held_out, classes)


def _together(training: Dataset, held: Dataset | None, classes: bool) -> ClassSet:
    streams = [part.samples(Order(shuffle=False), epochs=1) for part in (training, held) if part is not None]
    both = [[sample for sample in stream if sample.kind == "image"] for stream in streams]
    if not training.classes:
        _wants_captions(training.path, classes)
    left_out: dict[str, int] = defaultdict(int)
    for stream in streams:
        for reason, count in stream.skipped.items():
            left_out[reason] += count
    samples = [sample for part in both for sample in part]
    return _checked(training.path, samples, len(both[0]), training.classes, dict(left_out))


def _checked(path: Path, samples: list[Sample], training: int, classes: bool, left_out: dict[str, int]) -> ClassSet:
    names = tuple(sorted({sample.caption for sample in samples}))
    if len(names) < 2:
        what = "classes" if classes else "captions"
        found = f"one, {names[0]!r}" if names else "none"
        raise InputError(f"{path}: pictures of at least two {what} are needed, but there is {found}")
    if classes and len(samples) == training:
        raise InputError(f"{path}: no class has two different pictures, so none can be held out to measure on")
    numbers = {name: number for number, name in enumerate(names)}
    labels = tuple(numbers[sample.caption] for sample in samples)
    return ClassSet(tuple(samples), names, labels, training, classes, left_out)


def _wants_captions(path: Path, classes: bool) -> None:
    if classes:
        raise InputError(
            f"{path}: holds pictures with captions, and this task needs classes. Expected one folder of pictures for "
            "each class, a table with a column label, or COCO's annotations (.json)."
        )


def _tell_alone(path: Path, alone: Sequence[str]) -> None:
    if alone:
        shown = ", ".join(alone[:5]) + (f" and {len(alone) - 5} more" if len(alone) > 5 else "")
        warnings.warn(f"{path}: one picture only of {shown}: trained on, not measured", UserWarning, stacklevel=3)


def _part(data: Path, names: Sequence[str]) -> Path | None:
    return next((data / name for name in names if (data / name).is_dir()), None)


def _of_coco(annotations: Path, images: Path, share: float) -> ClassSet:
    found = read_coco(annotations, images)
    samples, empty = list[Sample](), 0
    for image in found.images:
        label = _largest(image)
        empty += label is None
        if label is not None:
            samples.append(Sample(image.path.name, image.path, found.names[label]))
    left_out = {"picture without objects": empty} if empty else {}
    groups: dict[str, dict[str, list[Sample]]] = defaultdict(lambda: defaultdict(list))
    for sample in samples:
        try:
            groups[sample.caption][content_of(sample)].append(sample)
        except BadSample as error:
            left_out[error.reason] = left_out.get(error.reason, 0) + 1
    training, held = list[Sample](), list[Sample]()
    for _, group in sorted(groups.items()):
        out = set(held_contents(group, share))
        for content, copies in group.items():
            (held if content in out else training).extend(copies)
    _tell_alone(annotations, sorted(name for name, group in groups.items() if len(group) < 2))
    return _checked(annotations, training + held, len(training), True, left_out)


def _largest(image: CocoImage) -> int | None:
    """The class of the object with the largest box; None without objects."""
    areas = [((x2 - x1) * (y2 - y1), thing.label) for thing in image.things for x1, y1, x2, y2 in (thing.box,)]
    return max(areas)[1] if areas else None


@dataclass(frozen=True)
class DensePictures:
    """Two parts of a dense set, one behind the other; the first `training` pictures are trained on."""

    parts: tuple[tuple[DenseSet, int], ...]  # set and number in it, of each picture
    training: int

    @property
    def key(self) -> str:
        pairs = [data.pairs[number] for data, number in self.parts]
        meaning = repr(getattr(self.parts[0][0], "labels", "")) + repr(getattr(self.parts[0][0], "files", ""))
        return _digest([(pair.key, path) for pair in pairs for path in (pair.image, pair.target)] + [(meaning, b"")])


def segmentation_pictures(data: Path, share: float, labels: LabelConfig) -> DensePictures:
    """Images with label maps.

    Raises:
        InputError: no such layout, files without a partner, or too few pictures to hold one out.
    """
    validation = open_segmentation(data, "validation", labels) if has_segmentation(data, "validation") else None
    return _divided(data, open_segmentation(data, "training", labels), validation, share)


def depth_pictures(data: Path, share: float, files: DepthFiles) -> DensePictures:
    """Images with depth; errors as `segmentation_pictures`."""
    validation = open_depth(data, "validation", files) if has_depth(data, "validation") else None
    return _divided(data, open_depth(data, "training", files), validation, share)


def _divided(data: Path, training: DenseSet, validation: DenseSet | None, share: float) -> DensePictures:
    if validation is not None:
        parts = [(training, number) for number in range(len(training))]
        return DensePictures((*parts, *((validation, n) for n in range(len(validation)))), len(parts))
    contents = [_content(pair) for pair in training.pairs]
    out = set(held_contents(contents, share))
    if not out:
        raise InputError(f"{data}: holds {len(set(contents))} different picture, so none can be held out to measure on")
    kept = [(training, number) for number, content in enumerate(contents) if content not in out]
    held = [(training, number) for number, content in enumerate(contents) if content in out]
    return DensePictures((*kept, *held), len(kept))


def _content(pair: Pair) -> str:
    return content_hash(pair.image)


def _digest(entries: Sequence[tuple[str, Path | bytes]]) -> str:
    """A hash of names, and of bytes, or of sizes and times of files."""
    digest = hashlib.sha256()
    for name, media in entries:
        digest.update(f"{name}\0".encode(errors="surrogateescape"))
        if isinstance(media, bytes):
            digest.update(hashlib.sha256(media).digest())
        elif media.exists():
            status = media.stat()
            path = str(media.resolve())
            digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()
