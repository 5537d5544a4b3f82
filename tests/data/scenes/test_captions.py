"""What captions say is counted and compared again, from the masks, the depth and the cameras."""

import re
from dataclasses import replace

import numpy as np
import pytest

from midsight.data.scenes import SceneEngine, ScenePicture
from midsight.data.scenes.camera import MOVES
from midsight.data.scenes.captions import Seen, counted, definite, facts, inventory, plural, relations

NUMBERS = {"a": 1, "an": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6}


@pytest.fixture(scope="module")
def pictures(engine: SceneEngine) -> list[ScenePicture]:
    return [engine.picture(index) for index in range(40)]


def thing(number: int, name: str, colour: str | None, x: float = 0, depth: float = 1.0, on: int | None = None) -> Seen:
    return Seen(number, name, colour, (x, 0, x + 10, 10), 100 - number, (x + 5, 5), depth, on)


def test_plurals_and_articles() -> None:
    names = ("table", "bench", "knife", "bunch of tulips", "box", "man", "battery", "toy", "trash can")
    expected = "tables benches knives bunches-of-tulips boxes men batteries toys trash-cans"
    assert [plural(name) for name in names] == [word.replace("-", " ") for word in expected.split()]
    assert counted("armchair", 1) == "an armchair"
    assert counted("armchair", 1, "red") == "a red armchair"
    assert counted("table", 3, "orange") == "three orange tables"
    assert counted("scissors", 1, "red") == "red scissors"


def test_inventory_and_definite_words() -> None:
    seen = [thing(1, "chair", "red"), thing(2, "chair", "blue"), thing(3, "table", None), thing(4, "chair", "red")]
    assert inventory(seen) == "two red chairs, a blue chair and a table"
    assert [definite(one, seen) for one in seen] == [None, "the blue chair", "the table", None]
    unknown = [*seen[:2], thing(3, "chair", None)]
    assert inventory(unknown) == "three chairs"
    assert definite(unknown[0], unknown) is None  # the third might be red as well
    assert inventory([]) == "nothing"


def test_relations_need_a_clear_case() -> None:
    left, beside, behind = thing(1, "a", None, 0), thing(2, "b", None, 4), thing(3, "c", None, 20, depth=2.0)
    found = {(r.subject, r.word, r.object) for r in relations([left, beside, behind])}
    assert (1, "left of", 3) in found
    assert (3, "right of", 1) in found
    assert not {(1, "left of", 2), (2, "right of", 1)} & found  # they overlap
    assert {(1, "nearer than", 3), (2, "nearer than", 3)} <= found
    assert (1, "nearer than", 2) not in found
    carried = thing(4, "d", None, 0, depth=0.5, on=1)
    found = {(r.subject, r.word, r.object) for r in relations([left, carried])}
    assert found == {(4, "on", 1)}


def test_counts_are_those_of_the_masks(pictures: list[ScenePicture]) -> None:
    several = 0
    for picture in pictures:
        names = {o.model.name for o in picture.scene.objects}
        ids = [int(k) for k in np.unique(picture.frame.ids) if k]
        there: dict[str, int] = {}
        for k in ids:
            name = picture.scene.objects[k - 1].model.name
            there[name] = there.get(name, 0) + 1
        assert facts(picture.seen)["counts"] == there
        said = dict.fromkeys(names, 0)
        colours = "(?:(?:red|orange|yellow|green|blue|purple|pink|brown|beige|black|white|grey) )?"
        for name in names:
            pattern = rf"\b({'|'.join(NUMBERS)}) {colours}(?:{name}|{plural(name)})\b"
            said[name] = sum(NUMBERS[word] for word in re.findall(pattern, picture.captions[0]))
        assert said == there, picture.captions[0]
        several += max(there.values()) > 1
    assert several > 3


def test_relations_are_those_of_masks_and_depth(pictures: list[ScenePicture]) -> None:
    told: set[str] = set()
    for picture in pictures:
        ids, depth = picture.frame.ids, picture.frame.depth
        for r in relations(picture.seen):
            told.add(r.word)
            columns_a, columns_b = np.nonzero(ids == r.subject)[1] + 0.5, np.nonzero(ids == r.object)[1] + 0.5
            if r.word == "left of":
                assert columns_a.mean() < columns_b.min()
                assert columns_b.mean() > columns_a.max()
            elif r.word == "right of":
                assert columns_a.mean() > columns_b.max()
            elif r.word == "nearer than":
                assert np.median(depth[ids == r.subject]) < 0.8 * np.median(depth[ids == r.object])
            else:
                assert picture.scene.objects[r.subject - 1].on == r.object - 1
    assert told == {"left of", "right of", "nearer than", "on"}


def test_sentences_name_things_that_are_related_so(pictures: list[ScenePicture]) -> None:
    sentences = 0
    for picture in pictures:
        names = {definite(one, picture.seen): one.id for one in picture.seen}
        held = {(r.subject, r.word, r.object) for r in relations(picture.seen)}
        pattern = r"(The [a-z ]+?) is (to the left of|to the right of|nearer to the camera than|on) (the [a-z ]+?)\."
        for subject, words, thing_named in re.findall(pattern, picture.captions[-1]):
            word = {"to the left of": "left of", "to the right of": "right of", "on": "on"}.get(words, "nearer than")
            assert (names[subject.replace("The", "the")], word, names[thing_named]) in held
            sentences += 1
    assert sentences > 10


def test_colours_are_painted_or_two_thirds_of_what_is_seen(pictures: list[ScenePicture]) -> None:
    painted = 0
    for picture in pictures:
        for one in picture.seen:
            placed = picture.scene.objects[one.id - 1]
            if placed.paint:
                assert one.colour == placed.paint
                painted += 1
            elif placed.model.name == "vase":
                assert one.colour == "blue"
            elif placed.model.name == "chair":
                assert one.colour == "red"
    assert painted > 3


def test_clips_tell_what_moves(engine: SceneEngine) -> None:
    still = 0
    for index in range(12):
        clip = engine.clip(index)
        if clip.scene.move != "still":
            assert any(MOVES[clip.scene.move] in text for text in clip.captions)
        else:
            assert not any("the camera" in text.replace("to the camera", "") for text in clip.captions)
            still += 1
        record = clip.record()
        assert record["camera_move"] == clip.scene.move
        assert len(record["motions"]) == sum(o.motion is not None for o in clip.scene.objects)
        for entry in record["motions"]:
            words = {"left": "slide", "right": "slide", "nearer": "come", "away": "move", "turn": "turn"}
            said = " ".join(clip.captions)
            assert words[entry["motion"]] in said or "moves" in said
    assert still > 0


def test_glass_has_no_colour_to_tell(pictures: list[ScenePicture]) -> None:
    from midsight.data.scenes.captions import look

    picture = next(p for p in pictures if p.scene.objects[0].model.name == "chair" and not p.scene.objects[0].paint)
    first = picture.scene.objects[0]
    glass = replace(first, model=replace(first.model, name="beer glass"))
    scene = replace(picture.scene, objects=(glass, *picture.scene.objects[1:]))
    assert look(picture.frame, scene)[0].colour is None
    assert look(picture.frame, picture.scene)[0].colour == "red"
