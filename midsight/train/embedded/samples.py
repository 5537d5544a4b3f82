"""The training pictures of the vision tower as shards: crops and drawings, each with a text.

A drawing comes with one of its captions. A photograph has no caption: it comes with a name drawn by lot, and the
teacher says how well that name fits, so any name teaches something.
"""

import io
import logging
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from midsight.data.crops import CropMixer
from midsight.data.shards import ShardWriter
from midsight.files import atomic_write
from midsight.train.embedded.teacher import DRAWING

PER_SHARD = 1000
_QUALITY = 92
log = logging.getLogger(__name__)


def write_samples(mixer: CropMixer, names: Sequence[str], count: int, out: Path, workers: int = 1) -> None:
    """The first `count` samples of the mixer as `out/sample-000000.tar` and so on; shards that are there are kept.

    Args:
        names: texts for photographs.
        workers: processes; the shards do not depend on it.
    """
    out.mkdir(parents=True, exist_ok=True)
    paths = [out / f"sample-{number:06d}.tar" for number in range(-(-count // PER_SHARD))]
    todo = [path for path in paths if not path.exists()]
    if workers == 1:
        for path in todo:
            _write(path, mixer, names)
        return
    with ProcessPoolExecutor(workers, initializer=_keep, initargs=(mixer, names)) as pool:
        for done, _ in enumerate(pool.map(_write_kept, todo), start=1):
            log.info("training pictures: %d of %d shards", done, len(todo))


def text_of(mixer: CropMixer, names: Sequence[str], number: int, drawing: int) -> str:
    """The text of a sample; it depends on the mixer's seed and the number alone."""
    rng = np.random.default_rng((mixer.seed, number, 1))
    if drawing < 0:
        return names[int(rng.integers(len(names)))]
    captions = mixer.drawings[drawing].captions
    first = len(captions) == 1 or rng.random() < 0.6  # the name as often as all keywords together, and a bit more
    caption = captions[0] if first else captions[int(rng.integers(1, len(captions)))]
    return DRAWING.format(caption.lower())


def _write(path: Path, mixer: CropMixer, names: Sequence[str]) -> None:
    start = int(path.stem.split("-")[1]) * PER_SHARD
    with atomic_write(path) as file, ShardWriter(file) as shard:
        for number in range(start, start + PER_SHARD):
            sample, encoded = mixer.sample(number), io.BytesIO()
            Image.fromarray(sample.pixels).save(encoded, "JPEG", quality=_QUALITY, subsampling=0)
            text = text_of(mixer, names, number, sample.drawing)
            shard.add(f"{number:08d}", {"jpg": encoded.getvalue(), "txt": text.encode()})


_kept: tuple[CropMixer, Sequence[str]]


def _keep(mixer: CropMixer, names: Sequence[str]) -> None:
    global _kept
    _kept = mixer, names


def _write_kept(path: Path) -> None:
    _write(path, *_kept)
