"""Measure a model on what the embedded model never saw: `python -m midsight.train.embedded.measure`.

Everyday photographs: labelled pictures of animals, food, plants, tools, vehicles and buildings, zero-shot over all
their names and over broad names, beside what the trunk's classifier gives with the sentence encoder's likeness of
names. Agreement: share of crops of unseen photographs whose best of the thousand ImageNet names is the one that the
trunk's own classifier gives. OpenMoji: zero-shot over all names. Clips: see `midsight.train.embedded.clips`.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from midsight.api import Perception, load
from midsight.checkpoints import load_pretrained
from midsight.data import packaged
from midsight.data.crops import Pixels, Pyramid
from midsight.data.packages import fetch
from midsight.data.wordnet import WordNet
from midsight.errors import MidsightError
from midsight.evaluate import open_moji
from midsight.evaluate.open_moji import Figure
from midsight.train.embedded import card, features, trunk, vocabulary
from midsight.train.embedded.clips import evaluate as of_clips
from midsight.train.embedded.figures import BASELINE_SIZES, classifier_answers, figure, hits_among, likeness
from midsight.train.embedded.recipe import SHIPPED, read_recipe

BROAD = {
    "mammal": "n01861778", "bird": "n01503061", "reptile": "n01661091", "fish": "n02512053", "insect": "n02159955",
    "food": "n07555863", "vehicle": "n04524313", "furniture": "n03405725", "building": "n02913152",
    "flower": "n11669921", "clothing": "n03051540", "musical instrument": "n03800933", "tool": "n04451818",
    "container": "n03094503", "toy": "n03964744", "landscape": "n09287968", "fruit": "n13134947",
    "weapon": "n04565375", "computer": "n03082979", "barrier": "n02796623",
}  # fmt: skip
_CROPS, _SIZE, _SURE = 12, 224, 0.5


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m midsight.train.embedded.measure", description=__doc__)
    parser.add_argument("--model", default=None, help="folder or name; the shipped model if left out")
    parser.add_argument("--work", type=Path, default=Path("runs/embedded"), help="where data packages are kept")
    parser.add_argument("--card", type=Path, default=None, help="model folder whose card is written anew with them")
    parser.add_argument("--recipe", type=Path, default=SHIPPED, help="by which the model was trained, a TOML file")
    options = parser.parse_args()
    root = options.work / "data"
    try:
        if options.card is not None:
            load_pretrained(options.card)  # says what is wrong with it before half an hour has gone by
        model, recipe = load(options.model, device="cpu", threads=1), read_recipe(options.recipe)
        pictures = _told(measure(model, root))
        clips = _told(of_clips(model, root, recipe))
        if options.card is not None:
            card.write(options.card, recipe, packaged.photographs(root), packaged.furniture(root))
            card.put_results(options.card, pictures, clips)
    except MidsightError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _told(figures: Iterable[Figure]) -> list[Figure]:
    """Each on a line as soon as it is there, for it takes half an hour to have them all."""
    kept = []
    for found in figures:
        sys.stdout.write(card.line(found) + "\n")
        sys.stdout.flush()
        kept.append(found)
    return kept


def measure(model: Perception, root: Path) -> Iterator[Figure]:
    """All figures of pictures, in the card's order."""
    yield from everyday(model, root)
    yield from photographs(model, root)
    for found in open_moji.evaluate(model, root):
        yield replace(found, metric=f"OpenMoji, {found.metric}")


def everyday(model: Perception, root: Path) -> Iterator[Figure]:
    """Labelled photographs over their names and over broad names; ours, the baseline, and the difference."""
    pictures = packaged.everyday(root)
    images = torch.from_numpy(model.embed_images([picture.path for picture in pictures]))
    answers = {size: classifier_answers([picture.path for picture in pictures], root, size) for size in BASELINE_SIZES}
    numbers = np.arange(len(pictures))
    for what, own in (("names", [p.name for p in pictures]), ("broad names", [p.kind for p in pictures])):
        labels = sorted(set(own))
        target = torch.tensor([labels.index(label) for label in own])
        ours = images @ torch.from_numpy(model.embed_texts(labels, "photo")).T
        alike = likeness(labels, root)
        for k in (1, 5):
            hits = hits_among(ours, target, k)
            peers = {size: hits_among(answer @ alike, target, k) for size, answer in answers.items()}
            size = max(peers, key=lambda size: float(peers[size].double().mean()))
            chance, title = k / len(labels), f"everyday photographs, {len(labels)} {what}, top-{k}"
            yield figure(title, hits, numbers, chance)
            yield figure(f"{title}: baseline at {size} px", peers[size], numbers, chance)
            yield figure(f"{title}: more than the baseline", hits.double() - peers[size].double(), numbers, 0.0)


def photographs(model: Perception, root: Path) -> Iterator[Figure]:
    """Agreement with the trunk's classifier and broad names, on crops of photographs that nothing was trained on."""
    pixels, pictures = unseen_crops(root)
    net = trunk.load_trunk(root)
    answer = net.logits(features.pooled(net.stem, pixels)).softmax(-1)
    images = torch.from_numpy(model.embed_images(list(pixels)))
    wordnet = WordNet(fetch("wordnet-base", root) / "usr/share/wordnet")
    synsets = vocabulary.imagenet_synsets()
    names = [wordnet.synsets[s].names for s in synsets]
    flat = torch.from_numpy(model.embed_texts([name.lower() for own in names for name in own], "photo"))
    parts = flat.split([len(own) for own in names])
    classes = torch.nn.functional.normalize(torch.stack([part.mean(0) for part in parts]), dim=-1)
    best, ranked = answer.argmax(1), (images @ classes.T).topk(5).indices
    for k in (1, 5):
        hits = (ranked[:, :k] == best[:, None]).any(1)
        yield figure(f"unseen photographs, 1000 names, agreement top-{k}", hits, pictures, k / len(classes))
    hits, rows, usual = broad_hits(model, images, answer, wordnet.below(synsets))
    yield figure(f"unseen photographs, {len(BROAD)} broad names, top-1", hits, pictures[rows], usual)


def broad_hits(
    model: Perception, images: Tensor, answer: Tensor, covered: dict[str, set[int]]
) -> tuple[Tensor, NDArray[np.bool_], float]:
    """Whether each crop with a clear kind gets it; which crops those are; and the share of the commonest kind."""
    kinds = torch.stack([answer[:, sorted(covered[synset])].sum(1) for synset in BROAD.values()], 1)
    texts = torch.from_numpy(model.embed_texts(list(BROAD), "photo"))
    sure = kinds.amax(1) > _SURE
    right = kinds.argmax(1)[sure]
    usual = right.bincount().max().item() / len(right)
    return (images[sure] @ texts.T).argmax(1) == right, sure.numpy(), usual


def unseen_crops(root: Path) -> tuple[Pixels, NDArray[np.int64]]:
    """Crops (N, 224, 224, 3) of 40 to 100 % of the short side, and the picture each is from (N,); always the same."""
    rng = np.random.default_rng(5)
    crops, pictures = [], []
    for number, picture in enumerate(packaged.unseen_photographs(root)):
        pyramid = Pyramid(picture, _SIZE)
        crops += [np.asarray(pyramid.crop(rng, rng.uniform(0.4, 1.0), _SIZE), np.uint8) for _ in range(_CROPS)]
        pictures += [number] * _CROPS
    return np.stack(crops), np.array(pictures)


if __name__ == "__main__":
    sys.exit(main())
