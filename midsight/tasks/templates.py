"""Prompt templates by name. "{c}" is where the class name goes.

Sources: the ImageNet and Kinetics lists published with CLIP, which the PE paper's zero-shot figures use too (its
appendix, B.1.2).
"""

from collections.abc import Sequence

from midsight.errors import InputError

_IMAGENET = """
a bad photo of a {c}.
a photo of many {c}.
a sculpture of a {c}.
a photo of the hard to see {c}.
a low resolution photo of the {c}.
a rendering of a {c}.
graffiti of a {c}.
a bad photo of the {c}.
a cropped photo of the {c}.
a tattoo of a {c}.
the embroidered {c}.
a photo of a hard to see {c}.
a bright photo of a {c}.
a photo of a clean {c}.
a photo of a dirty {c}.
a dark photo of the {c}.
a drawing of a {c}.
a photo of my {c}.
the plastic {c}.
a photo of the cool {c}.
a close-up photo of a {c}.
a black and white photo of the {c}.
a painting of the {c}.
a painting of a {c}.
a pixelated photo of the {c}.
a sculpture of the {c}.
a bright photo of the {c}.
a cropped photo of a {c}.
a plastic {c}.
a photo of the dirty {c}.
a jpeg corrupted photo of a {c}.
a blurry photo of the {c}.
a photo of the {c}.
a good photo of the {c}.
a rendering of the {c}.
a {c} in a video game.
a photo of one {c}.
a doodle of a {c}.
a close-up photo of the {c}.
a photo of a {c}.
the origami {c}.
the {c} in a video game.
a sketch of a {c}.
a doodle of the {c}.
a origami {c}.
a low resolution photo of a {c}.
the toy {c}.
a rendition of the {c}.
a photo of the clean {c}.
a photo of a large {c}.
a rendition of a {c}.
a photo of a nice {c}.
a photo of a weird {c}.
a blurry photo of a {c}.
a cartoon {c}.
art of a {c}.
a sketch of the {c}.
a embroidered {c}.
a pixelated photo of a {c}.
itap of the {c}.
a jpeg corrupted photo of the {c}.
a good photo of a {c}.
a plushie {c}.
a photo of the nice {c}.
a photo of the small {c}.
a photo of the weird {c}.
the cartoon {c}.
art of the {c}.
a drawing of the {c}.
a photo of the large {c}.
a black and white photo of a {c}.
the plushie {c}.
a dark photo of a {c}.
itap of a {c}.
graffiti of the {c}.
a toy {c}.
itap of my {c}.
a photo of a cool {c}.
a photo of a small {c}.
a tattoo of the {c}.
"""
_VERBS = ("using ", "doing ", "during ", "performing ", "practicing ")
_ACTIONS = ("{c}", *(f"a person {verb}{{c}}" for verb in ("", *_VERBS)))

TEMPLATES: dict[str, tuple[str, ...]] = {
    "imagenet1k": tuple(_IMAGENET.strip().splitlines()),
    "kinetics": tuple(f"a {m} of {a}." for m in ("photo", "video", "example", "demonstration") for a in _ACTIONS),
    "photo": ("a photo of a {c}.",),
    "plain": ("{c}",),
}
ALIASES = {"imagenet": "imagenet1k", "k400": "kinetics"}


def get_templates(name: str) -> list[str]:
    """The prompt templates of that name.

    Args:
        name: "imagenet1k" (80, also as "imagenet"), "kinetics" (28, also as "k400"), "photo" (one) or "plain" (the
            bare name).

    Raises:
        InputError: there are none of that name.
    """
    key = ALIASES.get(name, name)
    if key not in TEMPLATES:
        raise InputError(
            f"there are no templates named {name!r}; known are {', '.join(TEMPLATES)}, or give your own list"
        )
    return list(TEMPLATES[key])


def resolve_templates(templates: str | Sequence[str] | None) -> list[str]:
    """Templates from a name, from a list of one's own, or from one template; None is "plain".

    A single string that contains "{c}" is a template, any other single string is a name.

    Raises:
        InputError: an unknown name, an empty list, or a template without "{c}".
    """
    if templates is None:
        return get_templates("plain")
    if isinstance(templates, str):
        return [templates] if "{c}" in templates else get_templates(templates)
    chosen = list(templates)
    if not chosen:
        raise InputError("templates is an empty list; give at least one text with {c} where the name goes")
    for template in chosen:
        if not isinstance(template, str) or "{c}" not in template:
            raise InputError(f"template {template!r} has no {{c}}: write {{c}} where the class name goes")
    return chosen
