"""Points found again: of maps that name each place exactly, between tokens better than at their centres."""

import numpy as np
import torch
from torch import Tensor

from midsight.evaluate import points
from midsight.evaluate.scene_probes import SceneVideo

SIDE, GRID = 64, 16


class Places:
    """Stands for an encoder: maps of smooth waves, which name every place; the last frame is moved by 6 pixels."""

    def images(self, pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], height: int, width: int) -> Tensor:
        return torch.full((3, height, width), float(pixels[0, 0, 0]))

    def __call__(self, images: Tensor) -> list[Tensor]:
        moved = float(images[0, 0, 0, 0])
        x = (torch.arange(GRID) + 0.5) * SIDE / GRID - moved
        y = (torch.arange(GRID) + 0.5) * SIDE / GRID
        waves = [torch.stack([f(2 * torch.pi * k * v / SIDE) for k in (0.25, 0.5) for f in (torch.sin, torch.cos)])
                 for v in (x, y)]  # fmt: skip
        return [torch.cat([waves[0][:, None].expand(-1, GRID, -1), waves[1][:, :, None].expand(-1, -1, GRID)])[None]]


def test_between_tokens_beats_centres() -> None:
    dice = np.random.default_rng(0)
    first = dice.uniform(12, 50, (40, 2)).astype(np.float32)
    frames = np.zeros((2, SIDE, SIDE, 3), np.uint8)
    frames[1] = 6
    tracks = np.stack([first, first + np.array([6, 0], np.float32)])
    visible = np.ones((2, 40), bool)
    visible[1, :4] = False
    video = SceneVideo(frames, np.zeros((2, SIDE, SIDE), np.uint8), tracks, visible)
    found = points.measure(video, Places(), SIDE)  # type: ignore[arg-type]
    centre, between = (found[way] for way in points.WAYS)
    assert centre[-1] == between[-1] == 36  # what is hidden at the end is not asked for
    assert between[0] == 36
    assert between[2] > centre[2] + 5
    text = points.table({way: np.stack([one, one]) for way, one in found.items()})
    assert "72 points of 2 clips" in text
    assert text.count("100.0 (100.0 to 100.0)") >= 1


def test_a_clip_in_which_nothing_stays_in_sight() -> None:
    video = SceneVideo(
        np.zeros((2, SIDE, SIDE, 3), np.uint8), np.zeros((2, SIDE, SIDE), np.uint8), np.zeros((2, 3, 2), np.float32),
        np.zeros((2, 3), bool),
    )  # fmt: skip
    assert all(not row.any() for row in points.measure(video, Places(), SIDE).values())  # type: ignore[arg-type]
