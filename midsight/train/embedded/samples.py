"""The training pictures of the vision tower as shards: crops and drawings, each with a text.

A drawing comes with one of its captions. A photograph has no caption: it comes with a name drawn by lot, and the
teacher says how well that name fits, so any name teaches something.
"""

import hashlib
import io
import logging
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from midsight.data.crops import CropMixer
from midsight.data.shards import ShardWriter
from midsight.files import atomic_write
from midsight.train.embedded.features import check_same, made_of
from midsight.train.embedded.teacher import DRAWING

_QUALITY = 92
log = logging.getLogger(__name__)


def write_samples(
    mixer: CropMixer, names: Sequence[str], count: int, out: Path, workers: int = 1, per_shard: int = 1000
) -> None:
    """The first `count` samples of the mixer as `out/sample-000000.tar` and so on; shards that are there are kept.

    Args:
        names: texts for photographs.
        count: rounded up to whole shards.
        workers: processes; the shards do not depend on it.

    Raises:
        CheckpointError: the folder holds those of another mixture, seed, or list of drawings or names.
    """
    out.mkdir(parents=True, exist_ok=True)
    said = hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]
    check_same(out / "samples.json", {**made_of(mixer), "names": said, "per_shard": per_shard})
    paths = [out / f"sample-{number:06d}.tar" for number in range(-(-count // per_shard))]
    todo = [path for path in paths if not path.exists()]
    write = partial(_write, mixer, names, per_shard)
    if workers == 1:
        write(todo)
        return
    with ProcessPoolExecutor(workers) as pool:
        list(pool.map(write, [todo[first::workers] for first in range(workers)]))  # the mixer is sent once to each


def text_of(mixer: CropMixer, names: Sequence[str], number: int, drawing: int) -> str:
    """The text of a sample; it depends on the mixer's seed and the number alone."""
    rng = np.random.default_rng((mixer.seed, number, 1))
    if drawing < 0:
        return names[int(rng.integers(len(names)))]
    captions = mixer.drawings[drawing].captions
    first = len(captions) == 1 or rng.random() < 0.6  # the name as often as all keywords together, and a bit more
    caption = captions[0] if first else captions[int(rng.integers(1, len(captions)))]
    return DRAWING.format(caption.lower())


def _write(mixer: CropMixer, names: Sequence[str], per_shard: int, paths: Sequence[Path]) -> None:
    for done, path in enumerate(paths, start=1):
        _write_shard(path, mixer, names, per_shard)
        log.info("training pictures: %d of %d shards of this process", done, len(paths))


def _write_shard(path: Path, mixer: CropMixer, names: Sequence[str], per_shard: int) -> None:
    start = int(path.stem.split("-")[1]) * per_shard
    with atomic_write(path) as file, ShardWriter(file) as shard:
        for number in range(start, start + per_shard):
            sample, encoded = mixer.sample(number), io.BytesIO()
            Image.fromarray(sample.pixels).save(encoded, "JPEG", quality=_QUALITY, subsampling=0)
            text = text_of(mixer, names, number, sample.drawing)
            shard.add(f"{number:08d}", {"jpg": encoded.getvalue(), "txt": text.encode()})
