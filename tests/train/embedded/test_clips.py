"""Clips: files that are what they say, motions told with their opposite, means beside single frames."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import midsight
from midsight.data.crops import drawings_shown
from midsight.data.moves import WINDOW_MOVES
from midsight.data.packaged import Everyday, Picture
from midsight.data.scenes import FurnitureModel, SceneOptions
from midsight.data.scenes.camera import MOVES, Camera
from midsight.data.scenes.layout import Placed, Scene
from midsight.errors import InputError
from midsight.train.embedded import clips, held_out
from midsight.train.embedded.clips import Embedded, LabelledClip
from midsight.train.embedded.recipe import Recipe
from midsight.video import probe, sample_frames
from tests.data.scenes.conftest import egl  # noqa: F401 - a fixture

CAMERA = Camera((0.0, 1.0, 3.0), (0.0, 0.5, 0.0), 50.0, 32)


def chair(folder: Path, number: int) -> FurnitureModel:
    """A box as a model, in a folder of its own."""
    own = folder / f"chair{number}"
    own.mkdir(parents=True)
    corners = [(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)]
    faces = ("1 2 4 3", "5 7 8 6", "1 5 6 2", "3 4 8 7", "1 3 7 5", "2 6 8 4")
    lines = [f"v {x} {y} {z}" for x, y, z in corners] + [f"f {face}" for face in faces]
    (own / "chair.obj").write_text("\n".join(lines) + "\n")
    icon, size = own / "icon.png", (0.5, 0.9, 0.5)
    return FurnitureModel("chair", {"en": "Chair"}, "Office", own / "chair.obj", size, "CC0-1.0", "A", "t", icon=icon)


def test_what_was_drawn_by_lot_is_left_out(tmp_path: Path) -> None:
    models = [chair(tmp_path, number) for number in range(4)]
    models += [replace(models[0], icon=None), replace(models[1], size=(1.0, 0.01, 1.0))]  # the last one is a sheet
    icons = [Picture(m.icon, "drawing", ("Chair",), "t", "CC0-1.0") for m in models[:4] if m.icon is not None]
    others = [Picture(tmp_path / "emoji.png", "drawing", ("emoji",), "t", "CC0-1.0")]
    texture = models[3].path.with_name("wood.jpg")
    found = held_out.unseen(models, others + icons, {0, 3}, [texture])
    assert found == models[:2]  # the third one's icon was shown, the fourth one's wood was cropped
    assert held_out.unseen(models, others + icons, {1, 2, 3, 4}, []) == []


def test_what_was_seen_follows_from_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = [chair(tmp_path, number) for number in range(12)]
    drawings = [Picture(m.icon, "drawing", ("Chair",), "t", "CC0-1.0") for m in models if m.icon is not None]
    monkeypatch.setattr(held_out.packaged, "training_drawings", lambda root: drawings)
    monkeypatch.setattr(held_out.packaged, "textures", lambda root: [])
    monkeypatch.setattr(held_out, "furniture_models", lambda root: models)
    few, more = (held_out.unseen_furniture(tmp_path, Recipe(samples=samples)) for samples in (4, 12))
    shown = drawings_shown(drawings, Recipe().mixture, 0, 4)
    assert few == [model for number, model in enumerate(models) if number not in shown]
    assert 0 < len(more) < len(few) < 12
    with pytest.raises(InputError, match="all furniture was among the 400 training pictures"):
        held_out.unseen_furniture(tmp_path, Recipe(samples=400))


def scene(move: str, motion: str | None) -> Scene:
    model = FurnitureModel("chair", {"en": "Chair"}, "Office", Path("c.obj"), (1.0, 1.0, 1.0), "CC0-1.0", "A", "t")
    placed = Placed(model, (0.0, 0.0, 0.0), 0.0, motion=motion)
    return Scene((placed,), "room", None, None, None, 0, 3.0, (0.0, 1.0, 0.0), CAMERA, move)


def test_motions_are_told_with_their_opposites() -> None:
    assert clips.told(scene("pan left", None)) == (MOVES["pan left"], MOVES["pan right"])
    assert clips.told(scene("away", None)) == (MOVES["away"], MOVES["closer"])
    assert clips.told(scene("still", "away")) == ("the chair moves away", "the chair comes nearer")
    assert clips.told(scene("still", "turn")) is None
    assert clips.told(scene("still", None)) is None
    assert clips.told(scene("rise", "left")) is None  # two motions at once
    for move in (*MOVES, *WINDOW_MOVES):
        assert move == "still" or clips._in_words(clips._opposite(move, clips._OPPOSITES))[1] == MOVES[move]  # type: ignore[arg-type]


def everyday(folder: Path, count: int) -> list[Everyday]:
    """Pictures of one colour on the left and another one on the right."""
    found = []
    for number in range(count):
        pixels = np.full((40, 60, 3), (200, 40, 40), np.uint8)
        pixels[:, 30:] = (40, 40, 20 * number)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        found.append(Everyday(folder / f"{number}.png", f"name {number}", f"kind {number % 2}", "t"))
    return found


def test_a_camera_moves_over_each_photograph(tmp_path: Path) -> None:
    made = list(clips.photograph_clips(everyday(tmp_path, 7), tmp_path, longest=48))
    assert [clip.move for clip in made] == [*WINDOW_MOVES, WINDOW_MOVES[0]]
    assert [clip.thing for clip in made] == list(range(7))
    assert (made[3].name, made[3].kind, made[3].told) == ("name 3", "kind 1", (MOVES["tilt down"], MOVES["tilt up"]))
    found = probe(made[0].path)
    assert (found.width, found.height, found.frames, found.duration) == (48, 32, 16, 2.0)
    first, *_, last = sample_frames(made[0].path, 8).frames.astype(int)
    assert (first[..., 0] > 150).mean() < (last[..., 0] > 150).mean()  # pans to the left, where the red is


@torch.inference_mode()
def test_the_mean_is_of_eight_frames_and_knows_no_order(tmp_path: Path, tiny_model: midsight.Perception) -> None:
    made = list(clips.photograph_clips(everyday(tmp_path, 2), tmp_path, longest=48))
    found = clips.embed(tiny_model, made)
    frames = sample_frames(made[0].path, 8).frames
    each = torch.from_numpy(tiny_model.embed_images(list(frames)))
    torch.testing.assert_close(found.middles[0], each[4])
    torch.testing.assert_close(
        found.means[0], torch.nn.functional.normalize(each.mean(0), dim=-1), rtol=1e-2, atol=1e-2
    )
    backwards = torch.from_numpy(tiny_model.embed_videos([frames[::-1].copy()]))
    torch.testing.assert_close(found.means[:1], backwards, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found.means[0], found.middles[0], atol=1e-4)


class Axes:
    """Texts as unit axes, by the order in which they were first asked for."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def embed_texts(self, texts: list[str], templates: str | None = None) -> np.ndarray:
        self.texts += [text for text in texts if text not in self.texts]
        return np.eye(16, dtype=np.float32)[[self.texts.index(text) for text in texts]]


def labelled(count: int) -> list[LabelledClip]:
    told = [(MOVES[move], MOVES["zoom in"]) for move in WINDOW_MOVES]
    names = [f"name {number % 3}" for number in range(count)]
    return [
        LabelledClip(Path("x"), name, "kind", number // 2, told[number % 4], WINDOW_MOVES[number % 4])
        for number, name in enumerate(names)
    ]


def test_figures_of_known_answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = labelled(8)
    target = torch.tensor([number % 3 for number in range(8)])
    right, wrong = torch.eye(16)[target], torch.eye(16)[(target + 1) % 3]
    answer = torch.eye(16)[target]
    answer[:4] = 0.2  # the baseline does not know the first four
    answer[:4, 9] = 1
    monkeypatch.setattr(clips, "baseline", lambda made, root, size: answer)
    monkeypatch.setattr(
        clips, "likeness", lambda labels, root: torch.eye(16)[:, : len(labels)] - torch.eye(16)[:, 9:10]
    )
    monkeypatch.setattr(clips, "hits_among", lambda scores, target, k: scores.argmax(1) == target)
    seen = Embedded(right, wrong)
    found = {f.metric: f for f in clips.named("c", Axes(), made, seen, tmp_path)}  # type: ignore[arg-type]
    assert found["c, 3 names, top-1"].value == 1.0
    assert found["c, 3 names, top-1"].chance == pytest.approx(1 / 3)
    assert found["c, 3 names, top-1: the middle frame alone"].value == 0.0
    assert found["c, 3 names, top-1: more than the middle frame"].value == 1.0
    assert found["c, 3 names, top-1: baseline at 224 px"].value < 1.0
    assert len(found) == 10
    more = {f.metric for f in clips.named("c", Axes(), made, seen, tmp_path, broad=True)}  # type: ignore[arg-type]
    assert "c, 1 broad names, top-1" in more


def test_directions_and_moves_of_known_answers() -> None:
    made, model = labelled(8), Axes()
    model.embed_texts([MOVES[move] for move in WINDOW_MOVES])
    known = torch.eye(16)[[number % 4 for number in range(8)]]
    half = known.clone()
    half[::2] = torch.eye(16)[WINDOW_MOVES.index("zoom in")]
    assert clips.moves("c", model, made, Embedded(known, known)).value == 1.0  # type: ignore[arg-type]
    assert clips.moves("c", model, made, Embedded(half, known)).value == 0.5  # type: ignore[arg-type]
    found = clips.directions("c", model, [*made[:7], replace(made[7], told=None)], Embedded(half, known))  # type: ignore[arg-type]
    assert (found.value, found.count, found.chance) == (pytest.approx(3 / 7), 7, 0.5)


@pytest.mark.usefixtures("egl")
def test_one_thing_is_rendered_in_each_clip(tmp_path: Path) -> None:
    options = SceneOptions(size=64, most_objects=1, painted=0.0, twins=0.0, frames=4, frame_rate=8)
    models = [chair(tmp_path, 0), chair(tmp_path, 1)]
    broken = replace(models[0], path=tmp_path / "missing.obj")
    made = list(clips.furniture_clips([*models, broken], tmp_path, options, of_each=2))
    assert [(clip.name, clip.thing) for clip in made] == [("chair", 0), ("chair", 0), ("chair", 1), ("chair", 1)]
    frames = sample_frames(made[0].path, 4).frames.astype(int)
    assert frames.shape == (4, 64, 64, 3)
    assert np.abs(frames[0] - frames[-1]).mean() > 1  # something moves
    with pytest.raises(InputError, match="none of 1 pieces of furniture could be drawn"):
        list(clips.furniture_clips([broken], tmp_path, options, of_each=1))
