"""The four dense questions on drawn boxes: features that hold the answer score full, features that do not score low."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from midsight.errors import InputError
from midsight.evaluate import scene_probes as probes
from midsight.evaluate.scene_probes import Answer, ProbeConfig, ScenePicture, SceneVideo
from tests.train.blocks_world import SIDE, drawing, write_blocks

CONFIG = ProbeConfig(side=16, epochs=60, batch=4, lr=0.05)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[ScenePicture]:
    path = write_blocks(tmp_path_factory.mktemp("blocks"), 16)
    assert probes.kinds(path) == ("blue", "red")
    return probes.read_pictures(path, ("blue", "red"), CONFIG)


def knowing(pictures: list[ScenePicture]) -> Tensor:
    """Maps (N, 4, 16, 16) that hold the class and the logarithm of depth."""
    classes = torch.stack([F.one_hot(one.classes, 3).permute(2, 0, 1).float() for one in pictures])
    depth = torch.stack([one.depth for one in pictures])
    return torch.cat([classes, depth.log()[:, None]], dim=1)


def test_pictures_are_read_with_their_answers(pictures: list[ScenePicture]) -> None:
    pixels, ids = drawing(3)
    at = ((np.arange(16) + 0.5) * SIDE / 16).astype(int)
    thin = ids[np.ix_(at, at)]
    expected = np.array([0, 2, 1])[thin]  # red is object 1 and the second name
    np.testing.assert_array_equal(pictures[3].pixels, pixels)
    np.testing.assert_array_equal(pictures[3].classes.numpy(), expected)
    np.testing.assert_allclose(pictures[3].depth.numpy(), 2 - 0.5 * thin, atol=1e-6)


def test_probes_find_what_is_there_and_not_what_is_not(pictures: list[ScenePicture]) -> None:
    train, test = pictures[:10], pictures[10:]
    there = [knowing(part) for part in (train, test)]
    torch.manual_seed(0)
    noise = [torch.randn_like(maps) for maps in there]
    good = probes.segmentation(there[0], train, there[1], test, 3, CONFIG)
    bad = probes.segmentation(noise[0], train, noise[1], test, 3, CONFIG)
    assert good.value > 95
    assert bad.value < 60
    near = probes.depth(there[0], train, there[1], test, CONFIG)
    far = probes.depth(noise[0], train, noise[1], test, CONFIG)
    assert near.value < 0.05 < 0.2 < far.value
    low, high = probes.interval(bad, times=200)
    assert low < bad.value < high
    value, low, high = probes.difference(good, bad, times=200)
    assert value == pytest.approx(good.value - bad.value)
    assert 0 < low < value < high


def test_mean_iou_by_hand() -> None:
    table = np.array([[[4.0, 1, 0], [2, 3, 0], [0, 0, 0]]])  # the third class does not occur
    assert probes.mean_iou(table) == pytest.approx(100 * (4 / 7 + 3 / 6) / 2)
    both = Answer(np.concatenate([table, table]), probes.mean_iou)
    assert both.value == pytest.approx(probes.mean_iou(table))


def moving() -> tuple[SceneVideo, Tensor, Tensor]:
    """A box that moves a token to the right in each frame; maps that know every place of it, and maps of noise."""
    frames, ids, maps = [], [], []
    torch.manual_seed(1)
    codes = torch.randn(8, 4, 4)  # of the box's own 4 x 4 tokens
    ground = torch.randn(8, 16, 16)  # of each place behind it
    for step in range(4):
        one = np.zeros((SIDE, SIDE), dtype=np.uint8)
        one[16:32, 8 + 4 * step : 24 + 4 * step] = 1
        features = ground.clone()
        features[:, 4:8, 2 + step : 6 + step] = codes
        ids.append(one)
        frames.append(np.stack([one * 200] * 3, axis=-1))
        maps.append(features)
    start = np.array([[10.0, 18.0], [14.0, 22.0], [22.0, 30.0], [50.0, 50.0]], dtype=np.float32)
    shift = np.array([[4.0, 0.0]] * 3 + [[0.0, 0.0]], dtype=np.float32)
    points = np.stack([start + step * shift for step in range(4)])
    video = SceneVideo(np.stack(frames), np.stack(ids), points, np.ones((4, 4), dtype=bool))
    return video, torch.stack(maps), torch.randn(4, 8, 16, 16)


def test_tracking_and_correspondence() -> None:
    video, knows, noise = moving()
    assert probes.tracking([knows], [video]).value > 95
    assert probes.tracking([noise], [video]).value < 60
    config = ProbeConfig(side=16, reach=0.05)
    assert probes.correspondence([knows], [video], config).value == 100
    assert probes.correspondence([noise], [video], config).value < 50
    hidden = SceneVideo(video.frames, video.ids, video.points, np.zeros((4, 4), dtype=bool))
    assert probes.correspondence([knows, knows], [video, hidden], config).rows.tolist() == [[4, 4], [0, 0]]


def test_scenes_without_labels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected shards of the scene engine"):
        probes.read_pictures(write_blocks(tmp_path / "plain", 2, with_labels=False), ("red",), CONFIG)
