"""Shards: the same bytes for the same seed, labels that come back, going on after a stop, broken models."""

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from webdataset.tariterators import group_by_keys, tar_file_expander

from midsight.data.scenes import SceneEngine, SceneOptions, Stock, build_scenes, read_labels, scene_samples
from midsight.data.scenes.layout import Placed
from midsight.data.scenes.write import DEPTH_STEP, FLOW_STEP
from midsight.errors import ConfigError, MediaError, OutputError


def members(shard: Path) -> dict[str, bytes]:
    with tarfile.open(shard) as tar:
        return {name: file.read() for name in tar.getnames() if (file := tar.extractfile(name)) is not None}


def read_by_webdataset(shard: Path) -> list[dict[str, Any]]:
    """By its own iterators; its WebDataset class leaves the shard's file to the garbage collector."""
    with shard.open("rb") as stream:
        return list(group_by_keys(tar_file_expander([{"url": str(shard), "stream": stream}])))


def test_pictures_in_shards(egl: None, stock: Stock, options: SceneOptions, tmp_path: Path) -> None:
    done: list[int] = []
    built = build_scenes(tmp_path, 5, 5, stock=stock, options=options, per_shard=3, progress=done.append)
    assert [shard.name for shard in built.shards] == ["scenes-000000.tar", "scenes-000001.tar"]
    assert (built.samples, built.failures, built.unreadable_models) == (5, {}, {})
    assert done == [1, 2, 3, 4, 5]
    placed: list[Placed] = []
    samples = [sample for shard in built.shards for sample in read_by_webdataset(shard)]
    with SceneEngine(stock, options, 5) as engine:
        for index, sample in enumerate(samples):
            picture = engine.picture(index)
            placed += picture.scene.objects
            assert sample["__key__"] == picture.key
            assert sample["txt"].decode() in picture.captions
            pixels = np.asarray(Image.open(io.BytesIO(sample["jpg"]))).astype(int)
            assert np.abs(pixels - picture.frame.rgb).mean() < 3
            assert json.loads(sample["json"]) == json.loads(json.dumps(picture.record()))
            arrays = read_labels(sample["npz"])
            assert np.array_equal(arrays["ids"], picture.frame.ids)
            assert np.abs(arrays["depth"] - np.minimum(picture.frame.depth, 65.535)).max() <= DEPTH_STEP
            assert np.abs(arrays["normals"] - picture.frame.normals).max() < 0.01
            np.testing.assert_array_equal(arrays["world_to_camera"], picture.frame.camera.world_to_camera())
            assert arrays["poses"].shape == (len(picture.scene.objects), 4, 4)
    lines = (tmp_path / "ATTRIBUTION.txt").read_text().splitlines()
    used = {o.model.names["en"] for o in placed}
    assert lines[:-1] == sorted(f"{name}, by Test Author (test), CC0-1.0" for name in used)
    assert lines[-1] == "Texture table.png, by Test Author"


def test_records_carry_names_terms_and_shares(engine: SceneEngine) -> None:
    record = engine.picture(3).record()
    for entry in record["objects"]:
        assert set(entry["names"]) == {"en", "de"}
        assert (entry["licence"], entry["author"]) == ("CC0-1.0", "Test Author")
        assert 0.4 <= entry["share_seen"] <= 1


def test_clips_in_shards(egl: None, stock: Stock, options: SceneOptions, tmp_path: Path) -> None:
    built = build_scenes(tmp_path, 2, 5, stock=stock, options=options, clips=True)
    files = members(built.shards[0])
    with SceneEngine(stock, options, 5) as engine:
        for index in range(2):
            clip = engine.clip(index)
            with av.open(io.BytesIO(files[f"{clip.key}.mp4"])) as container:
                frames = [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)]
                assert container.streams.video[0].average_rate == options.frame_rate
            assert len(frames) == options.frames
            assert np.mean([np.abs(a - b.rgb).mean() for a, b in zip(frames, clip.frames, strict=True)]) < 6
            arrays = read_labels(files[f"{clip.key}.npz"])
            moderate = np.abs(clip.flow) < 1000
            assert np.abs(arrays["flow"] - clip.flow)[moderate].max() <= FLOW_STEP
            assert np.array_equal(arrays["flow_visible"], clip.flow_visible)
            assert arrays["ids"].shape == (options.frames, options.size, options.size)
            assert arrays["tracks"].shape == (options.frames, 64, 2)


def test_same_seed_same_bytes(egl: None, stock: Stock, options: SceneOptions, tmp_path: Path) -> None:
    for clips in (False, True):
        first = build_scenes(tmp_path / f"a{clips}", 2, 9, stock=stock, options=options, clips=clips)
        second = build_scenes(tmp_path / f"b{clips}", 2, 9, stock=stock, options=options, clips=clips)
        other = build_scenes(tmp_path / f"c{clips}", 2, 10, stock=stock, options=options, clips=clips)
        assert first.shards[0].read_bytes() == second.shards[0].read_bytes()
        assert first.shards[0].read_bytes() != other.shards[0].read_bytes()


def test_a_stopped_build_goes_on(egl: None, stock: Stock, options: SceneOptions, tmp_path: Path) -> None:
    def stop(done: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_scenes(tmp_path / "a", 4, 2, stock=stock, options=options, per_shard=2, progress=stop)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["journal.jsonl", "scenes-000000.tar"]
    kept = (tmp_path / "a/scenes-000000.tar").stat().st_mtime_ns
    done: list[int] = []
    again = build_scenes(tmp_path / "a", 4, 2, stock=stock, options=options, per_shard=2, progress=done.append)
    assert again.samples == 4
    assert len(done) == 2
    assert again.shards[0].stat().st_mtime_ns == kept
    whole = build_scenes(tmp_path / "b", 4, 2, stock=stock, options=options, per_shard=2)
    assert [path.read_bytes() for path in again.shards] == [path.read_bytes() for path in whole.shards]
    with pytest.raises(OutputError, match="seed differ"):
        build_scenes(tmp_path / "a", 4, 3, stock=stock, options=options, per_shard=2)


def test_a_broken_model_is_told_and_drawn_around(
    egl: None, stock: Stock, options: SceneOptions, tmp_path: Path
) -> None:
    path = tmp_path / "broken.obj"
    path.write_text("no model")
    mixed = Stock((*stock.models[2:4], replace(stock.models[0], path=path)))
    built = build_scenes(tmp_path / "a", 12, 1, stock=mixed, options=replace(options, outdoors=0.0, most_objects=2))
    assert set(built.unreadable_models) == {str(path)}
    assert built.samples + sum(built.failures.values()) == 12
    assert built.samples > 8
    with SceneEngine(Stock((replace(stock.models[0], path=path),)), options) as engine:
        results = list(scene_samples(engine, range(2), clips=False))
    assert all(isinstance(result, MediaError) and "broken.obj" in str(result) for result in results)


def test_foreign_labels_and_odd_counts_are_refused(stock: Stock, tmp_path: Path) -> None:
    for source in (b"", b"PK no archive", tmp_path / "missing.npz"):
        with pytest.raises(MediaError, match="not the labels of a scene"):
            read_labels(source)
    with pytest.raises(ConfigError, match="count"):
        build_scenes(tmp_path, 0, stock=stock)
