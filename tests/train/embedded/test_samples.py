"""Training pictures as shards: the same whoever writes them, with texts by seed and number."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from midsight.data.crops import CropMixer
from midsight.errors import CheckpointError
from midsight.train.embedded.samples import text_of, write_samples
from tests.train.embedded import small

NAMES = list(small.IDS)


@pytest.fixture(scope="module")
def mixer(tmp_path_factory: pytest.TempPathFactory) -> CropMixer:
    return small.mixer(tmp_path_factory.mktemp("pictures"))


def shards(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.tar"))}


def test_shards_hold_the_mixers_samples(mixer: CropMixer, tmp_path: Path) -> None:
    write_samples(mixer, NAMES, 9, tmp_path, per_shard=4)
    assert list(shards(tmp_path)) == ["sample-000000.tar", "sample-000001.tar", "sample-000002.tar"]
    files: dict[str, bytes] = {}
    for path in sorted(tmp_path.glob("*.tar")):
        with tarfile.open(path) as opened:
            files |= {member.name: opened.extractfile(member).read() for member in opened}  # type: ignore[union-attr]
    assert list(files) == [f"{n:08d}.{kind}" for n in range(12) for kind in ("jpg", "txt")]  # whole shards
    kinds = set()
    for number in range(12):
        sample = mixer.sample(number)
        kinds.add(sample.drawing < 0)
        assert files[f"{number:08d}.txt"].decode() == text_of(mixer, NAMES, number, sample.drawing)
        with Image.open(io.BytesIO(files[f"{number:08d}.jpg"])) as image:
            pixels = np.asarray(image, np.float32)
        noise, error = sample.pixels.std(), np.abs(pixels - sample.pixels).mean()
        assert pixels.shape == (64, 64, 3)
        assert error < 8 < noise + 8
    assert kinds == {True, False}


def test_shards_do_not_depend_on_the_workers(mixer: CropMixer, tmp_path: Path) -> None:
    for workers in (1, 2):
        write_samples(mixer, NAMES, 12, tmp_path / str(workers), workers=workers, per_shard=4)
    one, two = (shards(tmp_path / str(workers)) for workers in (1, 2))
    assert len(one) == 3
    assert one == two


def test_texts_follow_seed_and_number(mixer: CropMixer, tmp_path: Path) -> None:
    def texts(mixer: CropMixer, drawing: int) -> list[str]:
        return [text_of(mixer, NAMES, number, drawing) for number in range(400)]

    assert texts(mixer, -1) == texts(mixer, -1)
    assert texts(mixer, -1) != texts(small.mixer(tmp_path, seed=1), -1)
    assert set(texts(mixer, -1)) == set(NAMES)
    assert set(texts(mixer, 1)) == {"a drawing of smiling face"}
    found = texts(mixer, 2)
    assert set(found) == {"a drawing of red apple", "a drawing of fruit", "a drawing of snack"}
    assert 0.5 < found.count("a drawing of red apple") / len(found) < 0.7


def test_shards_that_are_there_are_kept(mixer: CropMixer, tmp_path: Path) -> None:
    write_samples(mixer, NAMES, 8, tmp_path, per_shard=4)
    before = shards(tmp_path)
    (tmp_path / "sample-000001.tar").unlink()
    (tmp_path / "sample-000000.tar").write_bytes(b"kept as it is")
    write_samples(mixer, NAMES, 8, tmp_path, per_shard=4)
    assert shards(tmp_path) == before | {"sample-000000.tar": b"kept as it is"}


def test_shards_of_another_mixture_are_not_mixed_in(mixer: CropMixer, tmp_path: Path) -> None:
    write_samples(mixer, NAMES, 2, tmp_path, per_shard=2)
    with pytest.raises(CheckpointError, match=r"differs in names; delete the folder"):
        write_samples(mixer, NAMES[1:], 2, tmp_path, per_shard=2)
    (tmp_path / "others").mkdir()
    with pytest.raises(CheckpointError, match=r"differs in seed; delete the folder"):
        write_samples(small.mixer(tmp_path / "others", seed=1), NAMES, 2, tmp_path, per_shard=2)
