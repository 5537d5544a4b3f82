"""Short captions such as people write and search for, put together from parts, always in the same order."""

import random
from itertools import product

SUBJECTS = ("a dog", "two children", "an old man", "a red bus", "a bowl of fruit", "a cat", "a woman", "three sheep")
DOINGS = ("in the snow", "on a wooden table", "near the sea", "under a tree", "at night", "in front of a church", "")
STYLES = ("a photo of {}", "{}", "{}, black and white", "a drawing of {}", "close-up of {}")

CAPTIONS: list[str] = [
    style.format(f"{subject} {doing}".strip()) for style, doing, subject in product(STYLES, DOINGS, SUBJECTS)
]
random.Random(0).shuffle(CAPTIONS)
