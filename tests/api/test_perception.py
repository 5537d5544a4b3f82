"""Embedding, classification, similarity and features of a tiny random model."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import midsight
from midsight import errors

RNG = np.random.default_rng(0)
PICTURES = [RNG.integers(0, 256, (30 + 5 * i, 40, 3), dtype=np.uint8) for i in range(6)]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Four pictures, the second one broken."""
    paths = [tmp_path / f"{i}.png" for i in range(4)]
    for path, picture in zip(paths, PICTURES, strict=False):
        Image.fromarray(picture).save(path)
    paths[1].write_bytes(b"not a picture")
    return paths


def test_every_kind_of_picture_gives_the_same_embedding(tiny_model: midsight.Perception, tmp_path: Path) -> None:
    picture = PICTURES[0]
    Image.fromarray(picture).save(tmp_path / "a.png")
    tensor = torch.from_numpy(picture).permute(2, 0, 1)
    data = (tmp_path / "a.png").read_bytes()
    kinds = [str(tmp_path / "a.png"), tmp_path / "a.png", data, Image.fromarray(picture), picture, tensor]
    found = tiny_model.embed_images(kinds)
    assert found.shape == (6, 32)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(found, np.repeat(found[:1], 6, axis=0), atol=1e-6)


def test_batching_does_not_change_results(tiny_model: midsight.Perception) -> None:
    together, alone = tiny_model.embed_images(PICTURES), tiny_model.embed_images(PICTURES, batch_size=1)
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert np.abs(together[0] - together[1]).max() > 1e-3, "pictures must differ, or the test could not fail"


def test_nothing_gives_an_empty_matrix(tiny_model: midsight.Perception) -> None:
    assert tiny_model.embed_images([]).shape == (0, 32)
    assert tiny_model.embed_texts([]).shape == (0, 32)
    assert tiny_model.classify([], ["a"]) == []


def test_generators_are_read_in_bounded_memory(tiny_model: midsight.Perception) -> None:
    pulled = 0

    def endless() -> Iterator[np.ndarray]:
        nonlocal pulled
        while True:
            pulled += 1
            yield PICTURES[pulled % 6]

    outcomes = tiny_model.iter_embed(endless(), batch_size=2)
    for _ in range(10):
        next(outcomes)
    assert pulled < 30


def test_one_broken_file_among_many(tiny_model: midsight.Perception, files: list[Path]) -> None:
    outcomes = list(tiny_model.iter_embed([*files, "missing.jpg"], batch_size=2))
    assert [outcome.index for outcome in outcomes] == [0, 1, 2, 3, 4]
    assert [outcome.error is None for outcome in outcomes] == [True, False, True, True, False]
    assert str(files[1]) in str(outcomes[1].error)
    good = tiny_model.embed_images([files[0], files[2], files[3]])
    np.testing.assert_allclose(np.stack([outcomes[i].unwrap() for i in (0, 2, 3)]), good, atol=1e-6)
    with pytest.raises(errors.MediaError, match=r"1\.png"):
        tiny_model.embed_images(files)


def test_a_video_is_the_mean_of_its_frames(tiny_model: midsight.Perception) -> None:
    clip = RNG.integers(0, 256, (5, 24, 32, 3), dtype=np.uint8)
    transform = midsight.transforms.get_image_transform(32)
    with torch.no_grad():
        features = tiny_model.model.encode_image(torch.stack([transform(frame) for frame in clip]))  # type: ignore[union-attr, operator]
    expected = torch.nn.functional.normalize(features.mean(0), dim=0)
    for source in (clip, torch.from_numpy(clip).permute(0, 3, 1, 2)):
        np.testing.assert_allclose(tiny_model.embed_videos(source)[0], expected.numpy(), atol=1e-6)
    np.testing.assert_allclose(tiny_model.embed_videos(source, batch_size=2)[0], expected.numpy(), atol=1e-6)


def test_pictures_and_videos_mix(tiny_model: midsight.Perception) -> None:
    clip = np.stack([PICTURES[0]] * 3)
    found = np.stack([outcome.unwrap() for outcome in tiny_model.iter_embed([PICTURES[0], clip, PICTURES[1]])])
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)
    np.testing.assert_allclose(found[2], tiny_model.embed_images(PICTURES[1])[0], atol=1e-6)


def test_an_embedding_without_direction_is_a_failure(
    tiny_model: midsight.Perception, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = torch.full((3, 32), float("nan"))
    bad[0] = 0
    bad[2] = 1
    monkeypatch.setattr(tiny_model, "_encode", lambda images: bad)
    outcomes = list(tiny_model.iter_embed(PICTURES[:3]))
    assert [outcome.error is None for outcome in outcomes] == [False, False, True]
    assert "no finite embedding" in str(outcomes[0].error)


def test_texts_are_cached_by_text_and_templates(
    tiny_model: midsight.Perception, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[str] = []
    encode = tiny_model._encode_texts

    def counting(texts: list[str]) -> torch.Tensor:
        encoded.extend(texts)
        return encode(texts)

    monkeypatch.setattr(tiny_model, "_encode_texts", counting)
    monkeypatch.setattr(tiny_model, "_texts", type(tiny_model._texts)())
    first = tiny_model.embed_texts(["a dog", "a cat", "a dog"])
    assert encoded == ["a dog", "a cat"]
    np.testing.assert_array_equal(first[0], first[2])
    again = tiny_model.embed_texts(["a cat", "a bird"])
    assert encoded == ["a dog", "a cat", "a bird"]
    np.testing.assert_array_equal(again[0], first[1])
    again[0] = 0
    np.testing.assert_array_equal(tiny_model.embed_texts("a cat")[0], first[1], "the cache is not the caller's array")
    tiny_model.embed_texts("a cat", "photo")
    assert encoded[-1] == "a photo of a a cat."
    monkeypatch.setattr(tiny_model, "texts_kept", 2)
    tiny_model.embed_texts(["x", "y", "z"])
    assert [name for name, _ in tiny_model._texts] == ["y", "z"]


def test_templates_are_averaged(tiny_model: midsight.Perception) -> None:
    found = tiny_model.embed_texts(["dog"], ["a {c}.", "the {c}."])
    parts = tiny_model.embed_texts(["a dog.", "the dog."])
    mean = parts.mean(axis=0)
    np.testing.assert_allclose(found[0], mean / np.linalg.norm(mean), atol=1e-6)
    assert tiny_model.embed_texts("dog", "kinetics").shape == (1, 32)


def test_texts_that_cannot_be(tiny_model: midsight.Perception) -> None:
    with pytest.raises(errors.InputError, match="int"):
        tiny_model.embed_texts(["a", 3])  # type: ignore[list-item]
    with pytest.raises(errors.InputError, match="no templates named"):
        tiny_model.embed_texts("a", "imagenot")


def test_a_long_text_is_cut_with_one_warning(tiny_folder: Path) -> None:
    model = midsight.load(tiny_folder)
    long = "word " * 40
    with pytest.warns(UserWarning, match="16 tokens"):
        found = model.embed_texts([long])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other = model.embed_texts(["word " * 50])
    np.testing.assert_allclose(found, other, atol=1e-6)


def test_classify(tiny_model: midsight.Perception) -> None:
    labels = ["a cat", "a dog", "a tree"]
    (predictions,) = tiny_model.classify(PICTURES[0], labels)
    cosines = tiny_model.similarity(tiny_model.embed_images(PICTURES[0]), tiny_model.embed_texts(labels))[0]
    scale = float(tiny_model.model.logit_scale.exp())  # type: ignore[union-attr, operator]
    expected = torch.from_numpy(scale * cosines).double().softmax(0)
    assert [p.label for p in predictions] == [labels[i] for i in expected.argsort(descending=True)]
    assert [p.score for p in predictions] == pytest.approx(sorted(expected.tolist(), reverse=True), abs=1e-5)
    best = tiny_model.classify(PICTURES, labels, "photo", top_k=1)
    assert [len(found) for found in best] == [1] * 6


def test_labels_are_checked_before_anything_is_read(tiny_model: midsight.Perception) -> None:
    for labels, message in (([], "no labels"), (["a", ""], "label 2"), (["a", "a"], "more than once")):
        with pytest.raises(errors.InputError, match=message):
            tiny_model.iter_classify("missing.jpg", labels)
    with pytest.raises(errors.InputError, match="top_k"):
        tiny_model.iter_classify("missing.jpg", ["a"], top_k=0)


def test_similarity(tiny_model: midsight.Perception) -> None:
    pictures, texts = tiny_model.embed_images(PICTURES), tiny_model.embed_texts(["a", "b"])
    found = tiny_model.similarity(pictures, texts)
    np.testing.assert_allclose(found, pictures @ texts.T, atol=1e-6)
    assert tiny_model.similarity(pictures[0], texts[0]).shape == (1, 1)
    with pytest.raises(errors.ShapeError, match="32"):
        tiny_model.similarity(pictures, np.zeros((2, 31)))


def test_features(tiny_model: midsight.Perception) -> None:
    first, last = tiny_model.features(PICTURES[:3], [0, -1], batch_size=2)
    assert first.shape == last.shape == (3, 48, 4, 4)
    tokens = tiny_model.features(PICTURES[:3], [2], as_maps=False)[0]
    assert tokens.shape == (3, 17, 48)
    np.testing.assert_allclose(last.reshape(3, 48, 16).transpose(0, 2, 1), tokens[:, 1:], atol=1e-5)
    assert tiny_model.features(np.stack(PICTURES[:1] * 4), [0])[0].shape[0] == 4, "frames of a clip"
    with pytest.raises(errors.LayerError, match="3 blocks"):
        tiny_model.features(PICTURES[0], [5])
    with pytest.raises(errors.LayerError, match="at least one layer"):
        tiny_model.features(PICTURES[0], [])
    with pytest.raises(errors.InputError, match="nothing to look at"):
        tiny_model.features([], [0])
    with pytest.raises(errors.MediaError, match=r"missing\.jpg"):
        tiny_model.features("missing.jpg", [0])


def test_a_model_without_text(dense_folder: Path) -> None:
    model = midsight.load(dense_folder)
    assert model.dim == 48
    tokens = model.features(PICTURES[0], [-1], as_maps=False)[0][0]
    mean = tokens.mean(axis=0)
    np.testing.assert_allclose(model.embed_images(PICTURES[0])[0], mean / np.linalg.norm(mean), atol=1e-6)
    with pytest.raises(errors.InputError, match="no text tower"):
        model.embed_texts("a")
    with pytest.raises(errors.InputError, match="no text tower"):
        model.classify(PICTURES[0], ["a"])


def test_a_truncated_model_refuses_texts(tiny_folder: Path) -> None:
    with pytest.raises(errors.InputError, match="layer=1"):
        midsight.load(tiny_folder, layer=-2).embed_texts("a")


def test_context_and_scale_are_those_of_the_pair(tiny_model: midsight.Perception) -> None:
    assert (tiny_model.context_length, tiny_model.logit_scale) == (16, pytest.approx(14.2857, rel=1e-3))
