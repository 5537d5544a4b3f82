"""The measuring of open-vocabulary segmentation: answers that are known give figures that are known."""

from pathlib import Path

import numpy as np
import pytest
import torch

import midsight
from midsight.api import open_vocabulary
from midsight.errors import InputError
from midsight.evaluate import open_vocabulary as measuring
from midsight.evaluate.open_vocabulary import Maps, Named, answers, measure, scenes, table, ways
from midsight.tasks.segmentation import OpenConfig
from midsight.tasks.segmentation.text_tokens import last_tokens
from tests.train.blocks_world import SIDE, drawing, write_blocks

NAMES = ["blue", "red", "stripe"]


def truth(classes: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> Maps:
    """Cosines of the three names and of one word of the background that say what is there, and a head's logit."""
    kinds = torch.from_numpy(np.stack([classes == k for k in (1, 2, 3, 0)])).float()[None]
    return kinds, 1 - 2 * kinds[:, 3:]


class Knowing:
    """Stands for a segmenter that is right, or turned by one class."""

    def __init__(self, pictures: list[Named], shift: int = 0) -> None:
        self.known = {one.pixels.tobytes(): one.classes for one in pictures}
        self.shift = shift

    def maps(self, image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Maps:
        return truth((self.known[image.tobytes()] + self.shift) % 3)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Named]:
    return list(scenes(write_blocks(tmp_path_factory.mktemp("blocks"), 6)))


def test_scenes_are_read_by_name(pictures: list[Named]) -> None:
    pixels, ids = drawing(2)
    np.testing.assert_array_equal(pictures[2].pixels, pixels)
    np.testing.assert_array_equal(pictures[2].classes, np.array([0, 2, 1])[ids])  # red is object 1 and the second name
    assert pictures[2].names == ("blue", "red")


@pytest.mark.parametrize("headed", [False, True])
def test_figures(pictures: list[Named], headed: bool) -> None:
    right, wrong = Knowing(pictures), Knowing(pictures, shift=1)
    given = [measuring.Way("right", right, headed), measuring.Way("wrong", wrong, headed)]  # type: ignore[arg-type]
    found = measure(pictures, NAMES, given)
    assert set(found) == set(measuring.QUESTIONS)
    for value, low, high in found.values():
        assert [value[0], low[0], high[0]] == pytest.approx([100] * 3)
        assert value[1] < 40
        assert (low <= value + 1e-9).all()
        assert (value <= high + 1e-9).all()
    page = table("blocks", 6, found, given)
    assert page.splitlines()[2].startswith("| right | 100.0 (100.0 to 100.0) |")
    with pytest.raises(InputError, match="no picture shows things of two names"):
        measure([Named(pictures[0].pixels, pictures[0].classes, ("blue",))], NAMES, given)


def test_the_mean_over_classes_by_hand() -> None:
    classes = np.array([[1, 1, 2, 2], [0, 0, 0, 0]])
    cosines = (
        torch.tensor([[1.0, 0, 0, 0], [0, 1, 1, 1]]).view(2, 1, 4).expand(2, 2, 4)
    )  # one of two "a" is taken for "b"
    cosines = torch.cat([cosines, torch.full((1, 2, 4), -1.0)])[None]
    found = answers(Named(np.zeros((2, 4, 3), np.uint8), classes, ("a", "b")), ["a", "b"], (cosines, None), False)
    assert found["own names"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    np.testing.assert_array_equal(found["all names"], [1, 2, 1, 3, 2, 2])  # right, found, there
    assert measuring._figure("all names")(found["all names"]) == pytest.approx(100 * (1 / 2 + 2 / 3) / 2)
    assert found["own names and background"] == pytest.approx((0 + 1 / 3 + 2 / 6) / 3)


def test_the_last_way_is_what_the_library_does(pictures: list[Named]) -> None:
    model, spatial = (midsight.load(name, device="cpu", threads=1) for name in (None, "embedded-spatial"))
    last = ways(model, spatial, ["cat", "motorcycle", "rocket"])[-1]
    image = np.asarray(np.kron(pictures[0].pixels, np.ones((4, 4, 1), np.uint8)))
    assert image.shape[0] == 4 * SIDE
    cosines, thing = last.segmenter.maps(image)
    library = open_vocabulary(["cat", "rocket"], model, spatial, background=True)
    ours, theirs = library.maps(image)
    assert last.headed
    assert thing is not None
    assert theirs is not None
    torch.testing.assert_close(thing, theirs)
    torch.testing.assert_close(cosines[:, [0, 2]], ours[:, 1:])


def test_the_baseline_is_norm_and_projection(tiny_model: midsight.Perception, dense_folder: Path) -> None:
    found = ways(tiny_model, None, ["a", "b"])
    assert [way.headed for way in found] == [False] * 4
    naive = found[0].segmenter
    assert naive.config == OpenConfig((1.0,), naive.config.windows, "self")
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    tower, images = tiny_model.tower, naive.encoder.images(pixels, 32, 32)[None]
    tokens = last_tokens(tower, images, "self")
    embedded = torch.nn.functional.normalize(tower.ln_post(tokens) @ tower.proj, dim=-1)
    texts = torch.from_numpy(tiny_model.embed_texts(naive.names, "photo"))
    expected = (embedded @ texts.T).transpose(1, 2).unflatten(2, (4, 4))
    torch.testing.assert_close(naive.maps(pixels)[0], expected, rtol=1e-4, atol=1e-5)
    spatial = midsight.load(dense_folder, device="cpu")
    assert [way.title for way in ways(tiny_model, spatial, ["a", "b"])][-1] == "values weighted by spatial tokens"
