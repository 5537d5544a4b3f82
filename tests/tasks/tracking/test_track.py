"""Tracking in frames, folders and videos: a square on a wall, and everything that can be wrong with the input."""

from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

import midsight
from midsight.api import dense_encoder
from midsight.errors import ConfigError, InputError, LayerError, MediaError
from midsight.images.labels import write_labels
from midsight.tasks.features import DenseEncoder
from midsight.tasks.tracking import DINO, PE, PropagationConfig, TrackingConfig, track
from midsight.video import MediaWarning

CONFIG = TrackingConfig(long_side=96, propagation=PropagationConfig(radius=4))


@pytest.fixture(scope="module")
def encoder(dense_folder: Path) -> DenseEncoder:
    return dense_encoder(midsight.load(dense_folder, device="cpu"), [0])


@pytest.fixture(scope="module")
def wall() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Frames (6, 96, 128, 3) of a blue square that moves over a yellow wall, and its labels."""
    frames = np.full((6, 96, 128, 3), (220, 200, 40), np.uint8)
    labels = np.zeros((6, 96, 128), np.uint8)
    for t in range(6):
        labels[t, 32:64, 16 + 8 * t : 56 + 8 * t] = 3
    frames[labels == 3] = (20, 40, 200)
    noise = np.random.default_rng(0).integers(-6, 7, frames.shape)
    return (frames + noise).clip(0, 255).astype(np.uint8), labels


def overlap(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8]) -> float:
    return float(((a == 3) & (b == 3)).sum() / ((a == 3) | (b == 3)).sum())


def test_an_object_is_followed(encoder: DenseEncoder, wall: tuple[npt.NDArray[np.uint8], ...]) -> None:
    frames, labels = wall
    found = [outcome.unwrap() for outcome in track(frames, labels[0], encoder, CONFIG)]
    np.testing.assert_array_equal(found[0], labels[0])
    assert all(map.shape == (96, 128) and map.dtype == np.uint8 for map in found)
    assert min(overlap(a, b) for a, b in zip(found, labels, strict=True)) > 0.7
    assert overlap(labels[0], labels[5]) < 0.01, "it has gone elsewhere"


def test_folders_lists_and_videos_are_frames(
    encoder: DenseEncoder, wall: tuple[npt.NDArray[np.uint8], ...], tmp_path: Path
) -> None:
    frames, labels = wall
    for t, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / f"{t:05}.png")
    write_labels(tmp_path / "labels.idx", labels[0])
    expected = [outcome.unwrap() for outcome in track(frames, labels[0], encoder, CONFIG)]
    for source in (tmp_path, sorted(tmp_path.glob("*.png")), (frame for frame in frames)):
        for found, other in zip(track(source, tmp_path / "labels.idx", encoder, CONFIG), expected, strict=True):
            np.testing.assert_array_equal(found.unwrap(), other)
    video = tmp_path / "wall.mkv"
    write_video(video, frames)
    seen = [outcome.unwrap() for outcome in track(video, labels[0], encoder, CONFIG)]
    assert len(seen) == 6
    assert min(overlap(a, b) for a, b in zip(seen, labels, strict=True)) > 0.7


def write_video(path: Path, frames: npt.NDArray[np.uint8]) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 128, 96, "yuv420p", 4_000_000
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        container.mux(stream.encode())


@pytest.mark.parametrize("kind", ["broken", "missing", "other size"])
def test_one_bad_frame_is_a_failure_in_its_place(
    encoder: DenseEncoder, wall: tuple[npt.NDArray[np.uint8], ...], tmp_path: Path, kind: str
) -> None:
    frames, labels = wall
    paths = [tmp_path / f"{t}.png" for t in range(6)]
    for path, frame in zip(paths, frames, strict=True):
        Image.fromarray(frame).save(path)
    if kind == "broken":
        paths[2].write_bytes(paths[2].read_bytes()[:200])
    elif kind == "missing":
        paths[2].unlink()
    else:
        Image.fromarray(frames[2][:50]).save(paths[2])
    found = list(track(paths, labels[0], encoder, CONFIG))
    assert [outcome.index for outcome in found] == list(range(6))
    assert [outcome.labels is None for outcome in found] == [False, False, True, False, False, False]
    with pytest.raises(MediaError, match=r"2\.png" if kind != "other size" else r"frame 2: has 128x50"):
        found[2].unwrap()
    without = list(track([p for t, p in enumerate(paths) if t != 2], labels[0], encoder, CONFIG))
    np.testing.assert_array_equal(found[5].unwrap(), without[4].unwrap())


def test_bad_frames_at_the_end_are_told(encoder: DenseEncoder, wall: tuple[npt.NDArray[np.uint8], ...]) -> None:
    frames, labels = wall
    found = list(track([frames[0], "gone.png", "gone too.png"], labels[0], encoder, CONFIG))
    assert [outcome.error is None for outcome in found] == [True, False, False]


def test_a_video_that_ends_early_gives_what_there_is(
    encoder: DenseEncoder, wall: tuple[npt.NDArray[np.uint8], ...], tmp_path: Path
) -> None:
    frames, labels = wall
    video = tmp_path / "cut.mkv"
    write_video(video, np.concatenate([frames, frames[::-1], frames]))
    video.write_bytes(video.read_bytes()[: int(video.stat().st_size * 0.6)])
    with pytest.warns(MediaWarning, match=r"cut\.mkv"):
        found = list(track(video, labels[0], encoder, CONFIG))
    assert 3 < len(found) < 18
    assert all(outcome.labels is not None for outcome in found)


def test_input_that_cannot_be_tracked(
    encoder: DenseEncoder, wall: tuple[npt.NDArray[np.uint8], ...], tmp_path: Path
) -> None:
    frames, labels = wall
    with pytest.raises(InputError, match="no object"):
        track(frames, np.zeros((96, 128), np.uint8), encoder)
    with pytest.raises(InputError, match="the first frame has 128x96 pixels, the first frame's labels 64x96"):
        next(track(frames, labels[0][:, :64], encoder, CONFIG))
    with pytest.raises(MediaError, match=r"gone\.png"):
        next(track(["gone.png", frames[1]], labels[0], encoder, CONFIG))
    with pytest.raises(InputError, match="no frames"):
        track([], labels[0], encoder)
    with pytest.raises(InputError, match="no pictures"):
        track(tmp_path, labels[0], encoder)
    with pytest.raises(InputError, match="neither a folder"):
        track(tmp_path / "x.txt", labels[0], encoder)
    colours = tmp_path / "colours.png"
    Image.fromarray(frames[0]).save(colours)
    with pytest.raises(MediaError, match="a picture in colours"):
        track(frames, colours, encoder)


def test_sizes_are_those_of_the_two_protocols() -> None:
    assert PE.size(480, 854, 14) == (252, 448)
    assert PE.size(200, 300, 14) == (196, 294), "never larger than native"
    assert DINO.size(480, 854, 16) == (480, 832)
    assert DINO.size(480, 854, 8) == (480, 832)
    assert DINO.size(1080, 607, 16) == (832, 480)
    assert DINO.size(480, 854, 14) == (476, 826)
    assert DINO.size(500, 500, 16) == (480, 480), "never below the short side"
    for wrong in ({}, {"short_side": 4, "long_side": 4}, {"long_side": 0}):
        with pytest.raises(ConfigError):
            TrackingConfig(**wrong)


def test_the_encoder_under_a_task(dense_folder: Path, tiny_folder: Path) -> None:
    model = midsight.load(dense_folder, device="cpu")
    encoder = dense_encoder(model, [1, -1])
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    maps = encoder(encoder.images(image, 32, 32)[None])
    for found, expected in zip(maps, model.features(image, [1, 2]), strict=True):
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)
    assert encoder(encoder.images(image, 16, 48)[None])[0].shape == (1, 48, 2, 6)
    assert dense_encoder(model, [1]).identity == dense_encoder(midsight.load(dense_folder, layer=1), [-1]).identity
    assert dense_encoder(model, [1]).identity != dense_encoder(model, [2]).identity
    assert dense_encoder(model, [1]).identity != dense_encoder(midsight.load(tiny_folder, device="cpu"), [1]).identity
    small = dense_encoder(midsight.load(dense_folder, image_size=64), [1])
    assert dense_encoder(model, [1]).identity == small.identity, "the input's size is the task's"
    with pytest.raises(LayerError):
        dense_encoder(model, [3])
    with pytest.raises(ConfigError):
        dense_encoder(model, [])
    assert not torch.is_inference_mode_enabled()
