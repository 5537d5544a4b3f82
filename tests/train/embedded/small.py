"""A tiny world for the embedded model: a WordNet of thirty meanings, a random trunk, pictures of one colour."""

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from midsight.data.crops import CropMixer, Mixture
from midsight.data.packaged import Picture
from midsight.pe import stem
from midsight.train.embedded import vocabulary
from midsight.train.embedded.texts import TextConfig
from midsight.train.embedded.trunk import Trunk
from midsight.train.embedded.words import WordsConfig
from tests import peers

KINDS = {
    "cat": ("tabby", "tiger cat", "siamese", "manx"),
    "dog": ("beagle", "collie", "boxer", "pug"),
    "bird": ("robin", "jay", "kite", "magpie"),
    "car": ("cab", "jeep", "limousine", "minivan"),
    "boat": ("canoe", "yawl", "gondola", "speedboat"),
    "fruit": ("fig", "lemon", "orange", "pomegranate"),
}
ABOVE = {"cat": "animal", "dog": "animal", "bird": "animal", "car": "vehicle", "boat": "vehicle", "fruit": "entity"}
IDS = {name: f"n{n:08d}" for n, name in enumerate(("entity", "animal", "vehicle", *KINDS, *sum(KINDS.values(), ())), 1)}
CLASSES = [IDS[name] for names in KINDS.values() for name in names]
TEXT = TextConfig(
    width=16, heads=2, layers=1, context_length=24, steps=40, batch=48, longest=20, class_share=0.25, broad_share=0.125,
    caption_share=0.125, pictures=8,
)  # fmt: skip
WORDS = WordsConfig(width=16, neighbours=3)


def parent(name: str) -> str | None:
    """The name of the meaning right above."""
    if name in ("animal", "vehicle"):
        return "entity"
    return ABOVE.get(name) or next((kind for kind, names in KINDS.items() if name in names), None)


def write_wordnet(folder: Path) -> Path:
    """`data.noun` and `index.noun` of `KINDS`, as in Debian's package below `folder`."""
    below = folder / "usr/share/wordnet"
    below.mkdir(parents=True)
    data, index = ["  1 a licence line"], ["  1 a licence line"]
    for name, number in IDS.items():
        above, word = parent(name), name.replace(" ", "_")
        pointer = f"001 @ {IDS[above][1:]} n 0000" if above else "000"
        data.append(f"{number[1:]} 03 n 01 {word} 0 {pointer} | a {name}")
        index.append(f"{word} n 1 1 @ 1 1 {number[1:]}")
    (below / "data.noun").write_text("\n".join(data) + "\n")
    (below / "index.noun").write_text("\n".join(index) + "\n")
    return folder


class Sentences:
    """Stands for the sentence encoder: a unit vector (384) of the sum of a random vector for each word."""

    def __init__(self, root: Path) -> None:
        del root

    def __call__(self, texts: Sequence[str]) -> Tensor:
        return F.normalize(torch.stack([sum((_word(w) for w in t.split()), torch.zeros(384)) for t in texts]), dim=-1)


def _word(word: str) -> Tensor:
    return torch.randn(384, generator=torch.Generator().manual_seed(zlib.crc32(word.encode())))


def trunk(seed: int = 0) -> Trunk:
    """Random weights under a classifier of `CLASSES`; features lie between 0 and 6 as in the real one."""
    net = peers.randomize(stem.build("efficientnet_lite2"), seed).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(len(CLASSES), 1280, generator=generator) * 0.05
    return Trunk(net, weight, torch.randn(len(CLASSES), generator=generator) * 0.1)


def pooled(count: int, seed: int = 0) -> Tensor:
    """Made-up mean-pooled features (count, 1280)."""
    return torch.rand(count, 1280, generator=torch.Generator().manual_seed(seed)) * 2


def pictures(folder: Path, kind: str, count: int, captions: Sequence[tuple[str, ...]] = ()) -> list[Picture]:
    """Noise as photographs and textures, a disc of one colour on nothing as drawings."""
    rng, found = np.random.default_rng(len(kind)), []
    for number in range(count):
        path = folder / f"{kind}-{number}.png"
        if kind == "drawing":
            rows, columns = np.mgrid[:48, :48] - 23.5
            pixels = np.zeros((48, 48, 4), np.uint8)
            pixels[rows**2 + columns**2 < 500] = (*rng.integers(0, 256, 3), 255)
        else:
            pixels = rng.integers(0, 256, (80, 90, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        found.append(Picture(path, kind, captions[number] if captions else (), "a test", "CC0-1.0"))  # type: ignore[arg-type]
    return found


def drawings(folder: Path) -> list[Picture]:
    """Three, one of them with a name that WordNet has."""
    return pictures(folder, "drawing", 3, [("beagle", "puppy"), ("smiling face",), ("Red Apple", "fruit", "snack")])


def mixer(folder: Path, seed: int = 0) -> CropMixer:
    photographs, textures = pictures(folder, "photograph", 2), pictures(folder, "texture", 1)
    return CropMixer(photographs, textures, drawings(folder), Mixture(size=64), seed)


def build_vocabulary(folder: Path, config: WordsConfig = WORDS, phrases: int = 40) -> vocabulary.Vocabulary:
    """Over `KINDS` and `drawings`; needs the patches of `conftest.world`."""
    return vocabulary.build(folder, drawings(folder), config, phrases, seed=0)
