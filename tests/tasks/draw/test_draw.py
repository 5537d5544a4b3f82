"""Overlays: what is coloured, that colours are even and steady, and that text stays inside."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, ImageDraw

from midsight.errors import InputError, ShapeError
from midsight.tasks.draw import class_colours, depth_colours, depth_range, draw_classes, draw_depth, draw_detections
from midsight.tasks.draw.text import Writer, readable_on

SIZES = ((1, 1), (16, 16), (40, 60), (8, 900), (900, 8), (480, 640), (1500, 2000))


def grey(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 100, np.uint8)


def lab(colours: np.ndarray) -> np.ndarray:
    """CIELAB by LittleCMS, an implementation of its own; steps of 1 in a and b, 100 / 255 in lightness."""
    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    image = ImageCms.applyTransform(Image.fromarray(colours[None]), to_lab)
    lightness, a, b = (np.asarray(band, dtype=np.int16)[0] for band in image.split())
    return np.stack([lightness * 100 / 255, a - 128, b - 128], axis=-1).astype(np.float64)


def found(boxes: list[list[float]], labels: list[int], scores: list[float], masks: np.ndarray | None = None) -> dict:
    values = {"boxes": torch.tensor(boxes), "labels": torch.tensor(labels), "scores": torch.tensor(scores)}
    return values if masks is None else values | {"masks": torch.from_numpy(masks)[:, None]}


def test_a_class_has_one_colour_and_no_other_class_has_it() -> None:
    colours = class_colours(150)  # of ADE20K
    np.testing.assert_array_equal(class_colours(7), colours[:7])
    assert len(np.unique(colours, axis=0)) == 150
    first = lab(colours[:20])
    distances = np.linalg.norm(first[:, None] - first, axis=-1) + 1000 * np.eye(20)
    assert distances.min() > 10  # 2 can just be told apart side by side


def test_colours_of_depth_are_even_steps_from_light_to_dark() -> None:
    seen = lab(depth_colours())
    assert (np.diff(seen[:, 0]) <= 0.5).all()  # 0.4 is one step of the reference's lightness
    assert (seen[0, 0] > 90, seen[-1, 0] < 20) == (True, True)
    steps = np.linalg.norm(np.diff(seen[::15], axis=0), axis=1)  # of 15, as the reference rounds
    assert steps.max() / steps.min() < 1.25


@pytest.mark.parametrize("size", SIZES)
def test_pictures_of_any_size_keep_it(size: tuple[int, int]) -> None:
    height, width = size
    picture = grey(height, width)
    boxes = found([[-5.0, -5, width + 9, height + 9]], [2], [0.5], np.ones((1, *size), bool))
    for drawn in (
        draw_detections(picture, boxes, ("a", "b", "a name that is far too long for a small picture")),
        draw_classes(picture, np.arange(height * width).reshape(size) % 30),
        draw_depth(np.linspace(1, 9, height * width).reshape(size)),
    ):
        assert (drawn.shape, drawn.dtype) == ((height, width, 3), np.uint8)
    assert (picture == 100).all()  # what is given is not drawn on


@pytest.mark.parametrize("size", [(40, 60), (480, 640)])
def test_text_is_moved_and_shortened_until_it_lies_inside(size: tuple[int, int]) -> None:
    """Written on a page that is larger than the picture, nothing may land outside the picture's part."""
    height, width = size
    for at in ((-50, -50), (width + 50, height + 50), (width - 3, 5)):
        page = Image.new("RGB", (width + 400, height + 100))
        writer = Writer(ImageDraw.Draw(page), width, height)
        writer.write("gjpqy, a name that is too long for some" * 2, *at, (255, 255, 255), (9, 0, 0))
        drawn = np.asarray(page)
        assert drawn[:height, :width].max() > 200
        assert not drawn[height:].any()
        assert not drawn[:, width:].any()
    assert Writer(ImageDraw.Draw(page), 3, 3).fit("cup", 3) == ""


def test_text_can_be_read_on_every_colour() -> None:
    def luminance(colour: tuple[int, ...]) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in colour)]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    for colour in map(tuple, class_colours(60).tolist()):
        light, dark = sorted((luminance(readable_on(colour)), luminance(colour)))[::-1]
        assert (light + 0.05) / (dark + 0.05) >= 4.5  # WCAG 2, level AA


def test_masks_and_boxes_are_where_they_were_found() -> None:
    masks = np.zeros((2, 120, 160), bool)
    masks[0, 60:80, 30:50] = True
    masks[1, 70:90, 40:60] = True
    boxes = [[30.0, 60, 50, 80], [40, 70, 60, 90]]
    drawn = draw_detections(grey(120, 160), found(boxes, [1, 2], [0.4, 0.9], masks), ("x", "cup", "cat"))
    changed = (drawn != 100).any(axis=-1)
    np.testing.assert_array_equal(changed[90:], False)
    np.testing.assert_array_equal(changed[60:90, 30:60], masks.any(axis=0)[60:90, 30:60] | changed[60:90, 30:60])
    colours = class_colours(3)
    np.testing.assert_array_equal(drawn[79, 35], colours[1])  # the box's lower line, its last pixel row
    np.testing.assert_array_equal(drawn[89, 59], colours[2])
    assert (drawn[62:68, 32:38] == np.rint(100 * 0.55 + 0.45 * colours[1].astype(np.float32))).all()
    assert changed[30:60, 30:60].any(), "no name above the box"


def test_the_best_detection_lies_on_top() -> None:
    boxes = [[10.0, 40, 60, 90], [10, 40, 60, 90]]
    drawn = draw_detections(grey(120, 160), found(boxes, [0, 1], [0.9, 0.2]), ("a", "b"))
    np.testing.assert_array_equal(drawn[89, 30], class_colours(1)[0])


def test_nothing_found_leaves_the_picture_as_it_is() -> None:
    empty = {"boxes": torch.zeros(0, 4), "scores": torch.zeros(0), "labels": torch.zeros(0, dtype=torch.int64)}
    np.testing.assert_array_equal(draw_detections(grey(30, 40), empty | {"masks": torch.zeros(0, 1, 30, 40)}), 100)


def test_classes_are_mixed_in_and_named_in_the_legend() -> None:
    labels = np.zeros((200, 300), np.uint16)
    labels[:, 200:] = 3
    plain = draw_classes(grey(200, 300), labels, legend=False)
    colours = class_colours(4).astype(np.float32)
    np.testing.assert_allclose(plain[0, 0], 45 + 0.55 * colours[0], atol=1)
    np.testing.assert_allclose(plain[199, 299], 45 + 0.55 * colours[3], atol=1)
    drawn = draw_classes(grey(200, 300), labels, ("sky", "x", "y", "cat"))
    rows, columns = np.nonzero((drawn != plain).any(axis=-1))
    assert (rows.max(), columns.min()) == (199, 0)  # the lower left corner
    assert 10 < 200 - rows.min() < 60  # two rows, of the classes that are there
    other = draw_classes(grey(200, 300), labels, ("sky", "x", "y", "dog"))
    assert (other != drawn).any()


def test_a_legend_of_many_classes_leaves_most_of_the_picture_free() -> None:
    labels = np.arange(100 * 200).reshape(100, 200) % 90
    changed = (draw_classes(grey(100, 200), labels) != draw_classes(grey(100, 200), labels, legend=False)).any(axis=-1)
    assert changed.any()
    assert not changed[:35].any()


def test_depth_runs_from_near_to_far_and_unknown_is_grey() -> None:
    metres = np.repeat(np.linspace(1.0, 5.0, 256)[None], 120, axis=0)
    metres[:10], metres[10:20], metres[20:30] = 0, np.nan, np.inf
    drawn = draw_depth(metres, (1.0, 5.0))
    assert (drawn[:30] == 128).all()
    np.testing.assert_array_equal(drawn[50], depth_colours())
    scale = drawn[-15:]
    assert (scale.min(axis=(0, 2))[:40] < 30).any(), "no black text at the near end"
    assert (scale.max(axis=(0, 2))[-40:] > 225).any(), "no white text at the far end"
    np.testing.assert_array_equal(draw_depth(metres, (2.0, 3.0))[50, [0, -1]], depth_colours()[[0, -1]])
    near, far = depth_range(metres)
    assert (1.0 < near < 1.1, 4.9 < far < 5.0) == (True, True)


def test_depth_without_a_range() -> None:
    assert depth_range(np.zeros((4, 4))) is None
    assert (draw_depth(np.zeros((4, 4))) == 128).all()
    np.testing.assert_array_equal(draw_depth(np.full((4, 4), 2.0))[0, 0], depth_colours()[0])


def test_what_does_not_fit_is_told() -> None:
    with pytest.raises(ShapeError, match="integer map"):
        draw_classes(grey(4, 4), np.zeros((4, 5), np.uint8))
    with pytest.raises(ShapeError, match="masks of"):
        draw_detections(grey(4, 4), found([[0.0, 0, 1, 1]], [0], [1.0], np.ones((1, 5, 4), bool)))
    with pytest.raises(InputError, match="near to far"):
        draw_depth(np.ones((4, 4)), (3.0, 1.0))
    with pytest.raises(ShapeError, match="expected depth"):
        draw_depth(np.ones(4))
