"""Tracking by label propagation on DAVIS 2017: J and F of each sequence, and their mean over all objects."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from midsight.data.davis import DavisSequence
from midsight.errors import InputError
from midsight.evaluate.metrics.jf import Labels, object_figures
from midsight.images.labels import write_labels
from midsight.tasks.features import DenseEncoder
from midsight.tasks.tracking import PE, TrackingConfig, track


@dataclass(frozen=True)
class SequenceFigures:
    """One sequence: J and F of each of its objects, shares between 0 and 1."""

    name: str
    frames: int
    objects: dict[int, tuple[float, float]]  # label -> J, F: means over the frames that count

    def mean(self) -> dict[str, float]:
        """ "J", "F" and "JF", means over the objects."""
        return _means(list(self.objects.values()))


def evaluate_davis(
    encoder: DenseEncoder,
    sequences: Sequence[DavisSequence],
    config: TrackingConfig = PE,
    out: Path | None = None,
) -> Iterator[SequenceFigures]:
    """Tracks sequence after sequence from its first annotation, and measures.

    Args:
        encoder: the last of its layers is read.
        sequences: what `midsight.data.davis.read_davis` gives.
        config: `tracking.PE` or `tracking.DINO`.
        out: where predictions go as indexed PNG, NAME/00000.png, as the DAVIS evaluation reads them.

    Yields:
        Figures of each sequence as it is done; `summary` puts them together.

    Raises:
        MediaError: a frame or annotation that cannot be read.
        InputError: a first annotation without an object, or sizes that differ.
        OutputError: a prediction cannot be written.

    Source: PE paper, B.3.3; DINO's evaluation of video segmentation; DAVIS 2017 evaluation, semi-supervised.
    """
    for sequence in sequences:
        predicted = predict_sequence(encoder, sequence, config)
        if out is not None:
            write_sequence(out / sequence.name, predicted, [path.stem for path in sequence.frames])
        yield SequenceFigures(sequence.name, len(predicted), object_figures(predicted, sequence.truth()))


def predict_sequence(encoder: DenseEncoder, sequence: DavisSequence, config: TrackingConfig = PE) -> Labels:
    """Labels of all frames, uint8 (T, H, W); errors as `evaluate_davis`."""
    return np.stack([found.unwrap() for found in track(sequence.frames, sequence.annotations[0], encoder, config)])


def write_sequence(folder: Path, labels: Labels, names: Sequence[str]) -> None:
    """Label maps (T, H, W) as indexed PNG in the colours of DAVIS, `folder`/NAME.png; the folder is made."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in zip(names, labels, strict=True):
        write_labels(folder / f"{name}.png", frame)


def summary(figures: Sequence[SequenceFigures]) -> dict[str, float]:
    """ "J", "F" and "JF" of a set: means over the objects of all sequences, as DAVIS has it.

    Raises:
        InputError: no sequence.
    """
    if not figures:
        raise InputError("there is no sequence to sum up")
    return _means([pair for found in figures for pair in found.objects.values()])


def table(figures: Sequence[SequenceFigures]) -> list[tuple[str, int, int, float, float, float]]:
    """Rows of name, frames, objects, J&F, J and F; the mean over all objects comes last."""
    rows = [(found.name, found.frames, len(found.objects), *_ordered(found.mean())) for found in figures]
    frames, objects = sum(row[1] for row in rows), sum(row[2] for row in rows)
    return [*rows, ("mean over objects", frames, objects, *_ordered(summary(figures)))]


def _ordered(means: dict[str, float]) -> tuple[float, float, float]:
    return means["JF"], means["J"], means["F"]


def _means(pairs: list[tuple[float, float]]) -> dict[str, float]:
    j, f = np.mean(pairs, axis=0)
    return {"J": float(j), "F": float(f), "JF": float((j + f) / 2)}
