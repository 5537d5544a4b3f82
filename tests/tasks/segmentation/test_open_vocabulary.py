"""Segmentation by names: sizes, background, windows and wrong labels; and the shipped models on photographs."""

from importlib.resources import files
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import midsight
from midsight.api import dense_encoder, open_vocabulary
from midsight.errors import ConfigError, InputError, MediaError, ShapeError
from midsight.images import Pixels, load_image
from midsight.tasks.features import DenseEncoder
from midsight.tasks.segmentation import OpenConfig, OpenSegmenter, stuff_of, usual_config
from midsight.tasks.segmentation import open_vocabulary as module
from midsight.tasks.segmentation.text_tokens import last_tokens, likeness, pool_each
from midsight.tasks.windows import WindowConfig, enlarge
from midsight.transforms.image import ImageTransform

ONCE = OpenConfig(scales=(2.0,), attention="self")
DEMO = files("midsight") / "assets" / "demo"


@pytest.fixture(scope="module")
def core(tiny_model: midsight.Perception) -> DenseEncoder:
    return dense_encoder(tiny_model)


@pytest.fixture(scope="module")
def spatial(dense_folder: Path) -> DenseEncoder:
    return dense_encoder(midsight.load(dense_folder, device="cpu"))


def texts(count: int) -> Tensor:
    return torch.randn(count, 32, generator=torch.Generator().manual_seed(3))


def picture(height: int = 50, width: int = 91) -> Pixels:
    """Blocks of colour, so that places differ."""
    blocks = np.random.default_rng(0).integers(0, 256, (5, 9, 3), dtype=np.uint8)
    return np.kron(blocks, np.ones((12, 12, 1), np.uint8))[:height, :width]


def head() -> nn.Module:
    torch.manual_seed(5)
    return midsight.tasks.segmentation.segmentation_head(48, 2, "linear")


def test_a_picture_gets_names_at_its_own_size(core: DenseEncoder, spatial: DenseEncoder) -> None:
    segmenter = OpenSegmenter(core, ["a", "b", "c"], texts(3), spatial=spatial, config=ONCE, scale=20)
    image = picture()
    found, scores = segmenter(image), segmenter.scores(image)
    assert segmenter.names == ("a", "b", "c")
    assert (found.shape, found.dtype) == ((50, 91), np.uint16)
    assert len(np.unique(found)) == 3  # otherwise the next lines could not fail
    np.testing.assert_array_equal(scores.argmax(0), found)
    np.testing.assert_allclose(scores.sum(0), 1, atol=1e-5)
    pixels = core.pixels(image, 64, 112)[None]  # shorter side at twice 32, the longer one to the nearest patch
    tokens = last_tokens(core.tower, core.normalize(pixels), "self")
    weights = likeness(spatial.tokens(spatial.normalize(pixels))[0], ONCE.temperature)
    embeddings = F.normalize(pool_each(core.tower, tokens, weights), dim=-1)
    cosines = (embeddings @ F.normalize(texts(3), dim=-1).T).transpose(1, 2).unflatten(2, (8, 14))
    expected = (20 * enlarge(cosines, (50, 91))).softmax(1)[0]
    torch.testing.assert_close(torch.from_numpy(scores), expected, rtol=1e-4, atol=1e-5)
    alone = OpenSegmenter(core, ["a", "b", "c"], texts(3), config=ONCE, scale=20)
    assert np.abs(alone.scores(image) - scores).max() > 0.05  # the other encoder has a say


def test_scales_are_averaged(core: DenseEncoder) -> None:
    one, two, both = (OpenConfig(scales=scales) for scales in ((1.0,), (2.0,), (1.0, 2.0)))
    image = picture(48, 48)
    maps = [OpenSegmenter(core, ["a", "b"], texts(2), config=c).maps(image, "")[0] for c in (one, two, both)]
    torch.testing.assert_close(maps[2], (enlarge(maps[0], (8, 8)) + maps[1]) / 2)


def test_windows_meet_on_whole_tokens(core: DenseEncoder, spatial: DenseEncoder) -> None:
    config = OpenConfig(scales=(1.0,), windows=WindowConfig(4, 3))
    segmenter = OpenSegmenter(core, ["a", "b"], texts(2), spatial=spatial, config=config)
    image = picture(32, 56)  # 4 x 7 tokens: windows from 0 and from 3
    pixels = core.pixels(image, 32, 56)[None]
    left, right = (segmenter._window(pixels[..., start : start + 32]) for start in (0, 24))
    expected = torch.cat([left[..., :3], (left[..., 3:] + right[..., :1]) / 2, right[..., 1:]], dim=-1)
    torch.testing.assert_close(segmenter.maps(image, "")[0], expected)


def test_the_background_by_words(core: DenseEncoder) -> None:
    segmenter = OpenSegmenter(core, ["a", "b"], texts(4)[:2], background=True, words=texts(4)[2:], config=ONCE)
    assert segmenter.names == ("background", "a", "b")
    found = segmenter(picture())
    plain = OpenSegmenter(core, ["a", "b", "c", "d"], texts(4), config=ONCE)(picture())
    assert (found == np.array([1, 2, 0, 0])[plain]).mean() > 0.95  # of the words, the best is taken on the tokens' grid
    assert set(np.unique(found)) == {0, 1, 2}
    scores = segmenter.scores(picture())
    np.testing.assert_allclose(scores.sum(0), 1, atol=1e-5)
    np.testing.assert_array_equal(scores.argmax(0), found)


def parted(core: DenseEncoder, spatial: DenseEncoder) -> npt.NDArray[np.bool_]:
    """Where the head sees surroundings."""
    pixels = core.pixels(picture(), 64, 112)[None]
    answer = head()(spatial(spatial.normalize(pixels)))
    behind = enlarge(answer[:, 1:] - answer[:, :1], (50, 91))[0, 0] < 0
    assert 0.05 < behind.float().mean() < 0.95  # otherwise the tests could not fail
    return behind.numpy()


def test_the_background_by_a_head(core: DenseEncoder, spatial: DenseEncoder) -> None:
    segmenter = OpenSegmenter(core, ["a", "b"], texts(2), background=True, head=head(), spatial=spatial, config=ONCE)
    plain = OpenSegmenter(core, ["a", "b"], texts(2), spatial=spatial, config=ONCE)
    found, scores, behind = segmenter(picture()), segmenter.scores(picture()), parted(core, spatial)
    np.testing.assert_array_equal(found, np.where(behind, 0, plain(picture()) + 1))
    np.testing.assert_array_equal(scores[0] > 0.5, behind)
    np.testing.assert_allclose(scores.sum(0), 1, atol=1e-5)
    one = OpenSegmenter(core, ["a"], texts(1), background=True, head=head(), spatial=spatial, config=ONCE)
    np.testing.assert_array_equal(one(picture()), found > 0)


@pytest.mark.parametrize("background", [False, True])
def test_surroundings_by_name_compete_among_themselves(
    core: DenseEncoder, spatial: DenseEncoder, background: bool
) -> None:
    names, given = ["a", "sky", "b", "sand"], texts(6)
    segmenter = OpenSegmenter(
        core, names, given[:4], background=background, words=given[4:], stuff=["sky", "sand"], head=head(),
        spatial=spatial, config=ONCE, scale=20,
    )  # fmt: skip
    found, scores, behind = segmenter(picture()), segmenter.scores(picture()), parted(core, spatial)
    every = given if background else given[:4]
    cosines = enlarge(OpenSegmenter(core, [*"uvwxyz"[: len(every)]], every, spatial=spatial, config=ONCE).maps(
        picture(), "")[0], (50, 91))[0].numpy()  # fmt: skip
    things = np.where(cosines[0] >= cosines[2], "a", "b")
    around = np.where(cosines[1] >= cosines[3], "sky", "sand")
    if background:
        words = enlarge(torch.from_numpy(cosines[None, 4:]), (50, 91))[0].amax(0).numpy()
        around = np.where(words > cosines[[1, 3]].max(0), "background", around)
    agreeing = np.array(segmenter.names)[found] == np.where(behind, around, things)
    assert agreeing.mean() > (0.95 if background else 0.9999)  # of the words, the best is taken on the tokens' grid
    np.testing.assert_allclose(scores.sum(0), 1, atol=1e-5)
    assert {"a", "b"} <= set(np.array(segmenter.names)[found[~behind]])
    assert not {"a", "b"} & set(np.array(segmenter.names)[found[behind]])


def test_surroundings_alone_need_no_head(core: DenseEncoder, spatial: DenseEncoder) -> None:
    same = {"stuff": ["sky", "sand"], "spatial": spatial, "config": ONCE}
    with_head = OpenSegmenter(core, ["sky", "sand"], texts(2), head=head(), **same)  # type: ignore[arg-type]
    without = OpenSegmenter(core, ["sky", "sand"], texts(2), **same)  # type: ignore[arg-type]
    np.testing.assert_array_equal(with_head(picture()), without(picture()))
    rest = OpenSegmenter(core, ["sky", "sand"], texts(2), background=True, head=head(), **same)  # type: ignore[arg-type]
    np.testing.assert_array_equal(rest(picture()) == 0, ~parted(core, spatial))
    np.testing.assert_allclose(rest.scores(picture()).sum(0), 1, atol=1e-5)
    assert stuff_of(["a dog", "Blue Sky", "grass", "skyscraper"]) == ["Blue Sky", "grass"]


def test_many_labels_come_out_as_few_do(core: DenseEncoder) -> None:
    names = [str(k) for k in range(19)]  # more than are compared at once
    segmenter = OpenSegmenter(core, names, texts(19), config=ONCE)
    np.testing.assert_array_equal(segmenter(picture()), segmenter.scores(picture()).argmax(0))


def test_what_cannot_be(core: DenseEncoder, spatial: DenseEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ShapeError, match=r"\(2, 32\), got \(3, 32\)"):
        OpenSegmenter(core, ["a", "b"], texts(3))
    with pytest.raises(ShapeError, match=r"\(n, 32\), got \(1, 5\)"):
        OpenSegmenter(core, ["a", "b"], texts(2), background=True, words=torch.zeros(1, 5))
    with pytest.raises(ConfigError, match="reads the spatial encoder's tokens"):
        OpenSegmenter(core, ["a", "b"], texts(2), head=head())
    with pytest.raises(ConfigError, match="take a PE-Core"):
        OpenSegmenter(spatial, ["a", "b"], texts(2))
    for wrong in ({"scales": ()}, {"scales": (0.0,)}, {"temperature": 0.0}, {"attention": "none"}):
        with pytest.raises(ConfigError):
            OpenConfig(**wrong)  # type: ignore[arg-type]
    segmenter = OpenSegmenter(core, ["a", "b"], texts(2), config=ONCE)
    with pytest.raises(MediaError, match="the limit is 40000 tokens"):
        segmenter(np.zeros((1, 1000, 3), np.uint8))
    monkeypatch.setattr(module, "MAX_SCORES", 1000)
    with pytest.raises(MediaError, match="scores of 2 classes at 91x50"):
        segmenter.scores(picture())


@pytest.mark.parametrize(
    ("labels", "background", "message"),
    [
        ([], False, "there are no labels"),
        (["cat", " "], False, "label 2 is ' '"),
        (["cat", "dog", "cat "], False, "more than once: 'cat'"),
        ("cat", False, "must be a list"),
        (["cat"], False, "one label alone, 'cat', would fill the picture"),
        (["cat", "sky"], ["sky"], "'sky' is a label and a word for the background"),
        (["cat"], [], "there are no labels"),
        (["cat", "background"], True, "'background' is a label already"),
    ],
)
def test_wrong_labels(
    tiny_model: midsight.Perception, labels: list[str], background: bool | list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        open_vocabulary(labels, tiny_model, background=background)


def test_by_a_loaded_model(tiny_model: midsight.Perception, dense_folder: Path) -> None:
    segmenter = open_vocabulary(["cat", "sky"], tiny_model, background=True)
    assert segmenter.names == ("background", "cat", "sky")
    assert segmenter.config == usual_config(segmenter.encoder)
    assert segmenter.config.windows == WindowConfig(4, 3)  # the tower's own grid
    assert len(segmenter._texts) == 2 + 5  # "sky" is a label, so it is no word of the background
    assert segmenter(picture()).shape == (50, 91)
    with pytest.raises(InputError, match="no text tower"):
        open_vocabulary(["cat", "sky"], midsight.load(dense_folder, device="cpu"))


@pytest.fixture(scope="module")
def shipped() -> midsight.Perception:
    return midsight.load(device="cpu", threads=1)


def test_shipped_models_find_two_things_in_a_photograph(shipped: midsight.Perception) -> None:
    halves = [load_image(str(DEMO / name))[:300, :300] for name in ("rocket.jpg", "cat.jpg")]
    image = np.concatenate(halves, axis=1)
    truth = np.repeat([0, 1], 300)[None].repeat(300, axis=0)
    labels = ["rocket", "cat"]
    ours = (open_vocabulary(labels, shipped)(image) == truth).mean()
    tower, names = shipped.tower, torch.from_numpy(shipped.embed_texts(labels, "photo"))
    images = ImageTransform(shipped.preprocess).normalize(dense_encoder(shipped).pixels(image, 448, 896))[None]
    with torch.no_grad():
        naive = F.normalize(tower.ln_post(tower.forward_features(images)) @ tower.proj, dim=-1) @ names.T
    maps = enlarge(naive.transpose(1, 2).unflatten(2, (14, 28)), (300, 600))
    theirs = (maps[0].argmax(0).numpy() == truth).mean()
    assert ours > 0.75
    assert theirs < ours - 0.2
