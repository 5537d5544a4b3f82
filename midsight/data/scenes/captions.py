"""English captions that are true by construction: counts, colours, relations, motion, camera moves.

Left and right are the picture's; "nearer" is by the median depth of what is seen; "on" comes from the layout. Nothing
is said of a thing that the words would not single out.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from midsight.data.scenes.camera import MOVES
from midsight.data.scenes.catalogue import FurnitureModel
from midsight.data.scenes.layout import MOTIONS, Scene
from midsight.data.scenes.meshes import Bytes, main_colour
from midsight.data.scenes.render import Frame
from midsight.data.scenes.truth import boxes_xyxy, masks

NEARER = 0.8  # a is nearer than b where its median depth is below this share of b's
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
# plural or without number: no article, never counted
_UNCOUNTED = frozenset((
    "scissors", "glasses", "sunglasses", "headphones", "apples", "french fries", "cutting pliers", "shelves",
    "wood logs", "kitchen tools", "folded clothes", "women's shoes", "sneakers", "orchids", "vertical shelves",
))  # fmt: skip
_MASS = frozenset(("soap", "bamboo", "lucky bamboo"))
_PEOPLE = ("man", "woman", "boy", "girl")
_IRREGULAR = {
    "man": "men", "woman": "women", "knife": "knives", "shelf": "shelves", "bench": "benches", "dress": "dresses",
    "mouse": "mice", "loaf": "loaves", "child": "children", "fish": "fish", "deer": "deer", "bus": "buses",
}  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """One object as a frame shows it."""

    id: int  # in the frame, from 1
    name: str
    colour: str | None  # the paint, or the surface colour of two thirds of what is seen of it
    box_xyxy: tuple[float, float, float, float]
    area: int  # pixels
    centre: tuple[float, float]  # mean pixel position
    depth: float  # median, metres
    on: int | None  # id of what it stands on


@dataclass(frozen=True)
class Relation:
    """`subject` is `word` `object`: "left of", "right of", "nearer than" or "on"; ids of a frame."""

    subject: int
    word: str
    object: int


def look(frame: Frame, scene: Scene) -> list[Seen]:
    """Every object of the scene that has a pixel in the frame."""
    boxes = boxes_xyxy(frame.ids, len(scene.objects))
    seen = []
    for k, mask in enumerate(masks(frame.ids, len(scene.objects))):
        rows, columns = np.nonzero(mask)
        if not len(rows):
            continue
        placed, box = scene.objects[k], boxes[k]
        seen.append(
            Seen(
                k + 1, placed.model.name, placed.paint or _own_colour(placed.model, frame.albedo[mask]),
                (float(box[0]), float(box[1]), float(box[2]), float(box[3])), len(rows),
                (float(columns.mean() + 0.5), float(rows.mean() + 0.5)), float(np.median(frame.depth[mask])),
                None if placed.on is None else placed.on + 1,
            )
        )  # fmt: skip
    return seen


def relations(seen: Sequence[Seen]) -> list[Relation]:
    """All relations that hold without doubt: left and right where each centre is outside of the other's box."""
    found = []
    ids = {s.id for s in seen}
    for a in seen:
        if a.on in ids and a.on is not None:
            found.append(Relation(a.id, "on", a.on))
        for b in seen:
            if a.id == b.id or a.on == b.id or b.on == a.id:
                continue
            if a.centre[0] < b.box_xyxy[0] and b.centre[0] > a.box_xyxy[2]:
                found += [Relation(a.id, "left of", b.id), Relation(b.id, "right of", a.id)]
            if a.depth < NEARER * b.depth:
                found.append(Relation(a.id, "nearer than", b.id))
    return found


def describe(scene: Scene, first: Sequence[Seen], last: Sequence[Seen] | None, seed: int) -> list[str]:
    """Captions from the shortest to the fullest; the last one says all there is to say, the first only what is there.

    Args:
        first, last: what the first and the last frame of a clip show; None for a picture. Only relations that hold in
            both are told.
        seed: picks among equal wordings.
    """
    rng = np.random.default_rng(seed)
    short = _opening(rng) + inventory(first) + str(rng.choice(_PLACES[scene.place]))
    until_the_end = set(relations(first if last is None else last))
    held = [r for r in relations(first) if r in until_the_end]
    told = [text for r in _mixed(held, rng) if (text := _relation_text(r, first))]
    sentences = [_sentence(short)]
    captions = [short]
    if last is not None and (happening := _happening(scene, first)):
        sentences.append(_sentence(happening))
        captions.append(f"{short}; {happening}")
    if told:
        captions += [" ".join((*sentences, _sentence(told[0])))]
        captions += [" ".join((*sentences, *map(_sentence, told[:3])))] if len(told) > 1 else []
    return captions


def facts(seen: Sequence[Seen]) -> dict[str, Any]:
    """The same as data: objects, counts by name, relations."""
    counts: dict[str, int] = {}
    for s in seen:
        counts[s.name] = counts.get(s.name, 0) + 1
    return {"objects": [asdict(s) for s in seen], "counts": counts, "relations": [asdict(r) for r in relations(seen)]}


def inventory(seen: Sequence[Seen]) -> str:
    """What is there, in the order of size: "two red chairs, a table and a lamp"."""
    by_name: dict[str, list[Seen]] = {}
    for s in sorted(seen, key=lambda s: (-s.area, s.id)):
        by_name.setdefault(s.name, []).append(s)
    parts = []
    for name, group in by_name.items():
        colours = [s.colour for s in group]
        if None in colours or name in _UNCOUNTED | _MASS:
            parts.append(counted(name, len(group), colours[0] if len(set(colours)) == 1 else None))
        else:
            parts += [counted(name, colours.count(colour), colour) for colour in dict.fromkeys(colours)]
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1] if parts else "nothing"


def counted(name: str, count: int, colour: str | None = None) -> str:
    """ "a table", "an orange chair", "three lamps", "scissors"."""
    prefix = f"{colour} " if colour else ""
    if name in _UNCOUNTED or name in _MASS:
        return prefix + name
    if count == 1:
        return ("an " if (prefix + name)[0] in "aeiou" else "a ") + prefix + name
    return f"{_NUMBERS[count] if count < len(_NUMBERS) else count} {prefix}{plural(name)}"


def plural(name: str) -> str:
    """The plural of a catalogue name: "bunches of tulips", "knives", "bushes"."""
    head, of, rest = name.partition(" of ")
    *words, noun = head.split(" ")
    if noun in _IRREGULAR:
        noun = _IRREGULAR[noun]
    elif noun.endswith("y") and noun[-2:-1] not in "aeiou":
        noun = noun[:-1] + "ies"
    elif noun.endswith(("s", "x", "ch", "sh")):
        noun += "es"
    else:
        noun += "s"
    return " ".join((*words, noun)) + of + rest


def definite(one: Seen, seen: Sequence[Seen]) -> str | None:
    """ "the red chair", where these words mean just this object of all that is seen; else None."""
    twins = [s for s in seen if s.name == one.name and s.id != one.id]
    if not twins:
        return f"the {one.name}"
    if one.colour is None or any(s.colour in (None, one.colour) for s in twins):
        return None
    return f"the {one.colour} {one.name}"


_PLACES = {"room": ("", " in a room", " indoors"), "outdoors": ("", " outdoors", " in the open")}
_WORDS = {
    "left of": "to the left of",
    "right of": "to the right of",
    "nearer than": "nearer to the camera than",
    "on": "on",
}


def _own_colour(model: FurnitureModel, albedo: Bytes) -> str | None:
    """Not told of people, nor of glass: the models' glass is opaque and grey."""
    untold = "glass" in model.name or model.name.split()[-1] in _PEOPLE
    return None if untold else main_colour(albedo)


def _relation_text(relation: Relation, seen: Sequence[Seen]) -> str | None:
    by_id = {s.id: s for s in seen}
    a, b = definite(by_id[relation.subject], seen), definite(by_id[relation.object], seen)
    verb = "are" if by_id[relation.subject].name in _UNCOUNTED else "is"
    return f"{a} {verb} {_WORDS[relation.word]} {b}" if a and b else None


def _mixed(held: list[Relation], rng: np.random.Generator) -> list[Relation]:
    """In random order, "on" first, each pair of objects at most once in one direction."""
    order = [held[k] for k in rng.permutation(len(held))]
    order.sort(key=lambda r: r.word != "on")
    told: set[tuple[frozenset[int], bool]] = set()
    kept = []
    for r in order:
        key = (frozenset((r.subject, r.object)), r.word == "nearer than")
        if key not in told:
            told.add(key)
            kept.append(r)
    return kept


def _happening(scene: Scene, first: Sequence[Seen]) -> str:
    """What moves, for clips: the object in the camera's starting view, then the camera."""
    parts = []
    for k, placed in enumerate(scene.objects, start=1):
        one = next((s for s in first if s.id == k), None)
        if placed.motion and one is not None:
            alone = sum(s.name == one.name for s in first) == 1
            who = definite(one, first) or (f"the {one.name}" if alone else f"one of the {plural(one.name)}")
            plain = scene.move == "still" or placed.motion == "turn"
            verb = MOTIONS[placed.motion] if plain else "{} moves"
            parts.append(_agree(verb, one.name).format(who))
    if scene.move != "still":
        parts.append(MOVES[scene.move])
    return " while ".join(parts)


def _agree(verb: str, name: str) -> str:
    for one, many in (("slides", "slide"), ("comes", "come"), ("moves", "move"), ("turns", "turn")):
        verb = verb.replace(one, many) if name in _UNCOUNTED else verb
    return verb


def _opening(rng: np.random.Generator) -> str:
    return str(rng.choice(("", "", "a picture of ", "a view of ", "a rendering of ")))


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."
