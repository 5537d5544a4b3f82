"""Heat maps, marks, lines and sheets, read back from the pixels."""

import numpy as np
import pytest
import torch

from midsight.errors import ShapeError
from midsight.tasks.correspondence import Matches
from midsight.tasks.draw import heat

LUMA = np.array([0.2126, 0.7152, 0.0722])


def picture(height: int, width: int, level: int = 128) -> heat.Pixels:
    return np.full((height, width, 3), level, np.uint8)


def test_colours_of_heat_grow_lighter_step_by_step() -> None:
    lightness = heat.heat_colours() @ LUMA
    assert (np.diff(lightness) > -1).all()
    assert (np.diff(lightness[::16]) > 3).all()
    assert lightness[0] < 40
    assert lightness[-1] > 220
    values = np.array([[-1, 0, 0.5, 1, 7]], np.float32)
    np.testing.assert_array_equal(heat.heat_map(values)[0], heat.heat_colours()[[0, 0, 128, 255, 255]])


def test_each_value_covers_its_part_of_the_picture() -> None:
    values = np.array([[0, 1], [1, 0]], np.float32)
    found = heat.overlay(picture(40, 60), values, opacity=1.0)
    np.testing.assert_array_equal(found[:20, :30], np.broadcast_to(heat.heat_colours()[0], (20, 30, 3)))
    np.testing.assert_array_equal(found[:20, 30:], np.broadcast_to(heat.heat_colours()[255], (20, 30, 3)))
    assert (heat.overlay(picture(40, 60), values, opacity=0.0) == 128).all()


def test_mark_surrounds_its_place() -> None:
    found = heat.marked(picture(50, 50), 20, 30)
    changed = np.argwhere((found != 128).any(axis=2))
    np.testing.assert_allclose(changed.mean(axis=0), [30, 20], atol=0.6)
    assert (found[30, 20] == 128).all()


def test_pairs_are_drawn_at_their_places_on_both_pictures() -> None:
    a, b = picture(50, 100), picture(200, 100)
    matches = Matches(torch.tensor([[75.0, 25.0]]), torch.tensor([[50.0, 100.0]]), torch.ones(1))
    found = heat.pairs(a, b, matches.a, matches.b, long_side=200)
    assert found.shape == (200, 200 + 8 + 100, 3)
    colour = heat.place_colours(matches.a, (50, 100))[0].astype(int)
    at = np.argwhere(np.abs(found.astype(int) - colour).max(axis=2) < 8)  # y, x
    assert np.abs(at - [50, 150]).sum(axis=1).min() <= 1
    assert np.abs(at - [100, 258]).sum(axis=1).min() <= 1
    numbered = heat.pairs(a, b, matches.a, matches.b, long_side=200, numbered=True)
    assert (numbered != found).any()
    with pytest.raises(ShapeError, match="pairs"):
        heat.pairs(a, b, matches.a, matches.b[:0])


def test_places_far_apart_get_colours_far_apart() -> None:
    corners = torch.tensor([[1.0, 1], [99, 1], [1, 99], [99, 99], [50, 50]])
    colours = heat.place_colours(corners, (100, 100)).astype(int)
    apart = np.abs(colours[:, None] - colours[None]).max(axis=2)[~np.eye(5, dtype=bool)]
    assert apart.min() > 40


def test_sheets_hold_rows_of_any_length() -> None:
    found = heat.captioned([[("a", picture(30, 200, 0)), ("b", picture(20, 10, 0))], [("c", picture(30, 200, 0))]])
    assert found.shape == (2 * (30 + 22 + 8), 2 * 208 + 8, 3)
    assert (found[22:52, 8:208] == 0).all()
    assert (found[22:42, 216:226] == 0).all()
    assert (found[82:112, 8:208] == 0).all()
    assert (found[60:, 216:] == 255).all()


@pytest.mark.parametrize(("height", "width"), [(1, 300), (300, 1), (4000, 3000)])
def test_pictures_are_scaled_to_the_page(height: int, width: int) -> None:
    found = heat.scaled(picture(height, width), 120)
    assert max(found.shape[:2]) == 120
    assert min(found.shape[:2]) == max(1, round(120 * min(height, width) / max(height, width)))
