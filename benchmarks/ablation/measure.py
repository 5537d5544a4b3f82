"""What a trained pair can do: names of drawings it has not seen, retrieval, and every layer by nearest neighbours."""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.ablation.data import Pictures, Record
from midsight import pe
from midsight.configs import PreprocessConfig
from midsight.evaluate.metrics import classification, retrieval
from midsight.transforms import get_text_tokenizer
from midsight.transforms.batched import BatchTransform

COLUMNS = {
    "val": "unseen drawings of trained concepts, top-1 over their names",
    "new": "concepts that were not trained, trained styles, top-1 over their names",
    "openmoji": "trained concepts in an unseen style (OpenMoji), top-1 over their names",
    "openmoji-new": "concepts that were not trained, unseen style, top-1 over their names",
    "t2i": "text to picture, clip art and furniture with captions that were not trained, recall@10",
    "i2t": "picture to text, of the same",
}
RECALL = 10
NEIGHBOURS = 10
ROWS = 128  # pictures that are encoded at once

Figure = dict[str, float]  # value, chance, count


@torch.inference_mode()
def measure(model: pe.CLIP, pictures: Pictures) -> dict[str, object]:
    """All figures at the model's own resolution, on its device: shares from 0 to 1, with what guessing gives.

    Returns:
        "columns": a figure for each of `COLUMNS`; "layers": kNN accuracy behind each block, first to last;
        "embedding": kNN accuracy of the embedding; "knn": chance and number of pictures of both.
    """
    encoder = Encoder(model)
    columns = {split: zero_shot(encoder, pictures, split) for split in ("val", "new", "openmoji", "openmoji-new")}
    columns |= pairs(encoder, pictures.of("pairs"))
    layers, embedding, knn = neighbours(encoder, pictures)
    return {"columns": columns, "layers": layers, "embedding": embedding, "knn": knn}


class Encoder:
    """A pair with its transforms."""

    def __init__(self, model: pe.CLIP) -> None:
        self.model, self.device = model.eval(), model.logit_scale.device
        self.transform = BatchTransform(PreprocessConfig(model.image_size), None)
        self.tokenizer = get_text_tokenizer(model.context_length)

    def batches(self, pixels: Tensor) -> Iterator[Tensor]:
        for start in range(0, len(pixels), ROWS):
            yield self.transform(pixels[start : start + ROWS].to(self.device))

    def images(self, pixels: Tensor) -> Tensor:
        """(N, D), length 1."""
        return torch.cat([self.model.encode_image(batch, normalize=True) for batch in self.batches(pixels)])

    def texts(self, texts: Sequence[str]) -> Tensor:
        """(N, D), length 1."""
        return self.model.encode_text(self.tokenizer(list(texts)).to(self.device), normalize=True)

    def layers(self, pixels: Tensor) -> list[Tensor]:
        """Mean patch token behind each block, (N, W) each, and last the embedding (N, D)."""
        tower, first = self.model.visual, int(self.model.visual.use_cls_token)
        rows: list[list[Tensor]] = [[] for _ in range(tower.layers + 1)]
        for batch in self.batches(pixels):
            for layer, tokens in enumerate(tower.forward_intermediates(batch, range(tower.layers))):
                rows[layer].append(tokens[:, first:].mean(dim=1))
            rows[-1].append(tower(batch))
        return [torch.cat(row) for row in rows]


def zero_shot(encoder: Encoder, pictures: Pictures, split: str) -> Figure:
    """Top-1 over the names of all trained concepts, or of all that were not trained."""
    among = "new" if "new" in split else "train"
    names = sorted({record.name for record in pictures.records if record.split == among and record.group})
    shown = pictures.of(split)
    targets = torch.tensor([names.index(record.name) for record in shown.records])
    found = classification(encoder.images(shown.pixels) @ encoder.texts(names).T, targets)
    return {"value": found["acc1"], "chance": 1 / len(names), "count": len(targets)}


def pairs(encoder: Encoder, shown: Pictures) -> dict[str, Figure]:
    """Retrieval both ways; pictures of one caption are all right."""
    captions = sorted({record.name for record in shown.records})
    right = torch.tensor([[record.name == caption for record in shown.records] for caption in captions])
    scores = encoder.texts(captions) @ encoder.images(shown.pixels).T
    found = retrieval(scores, right, (RECALL,), dual_softmax=False)
    return {
        "t2i": {
            "value": found[f"image_retrieval_recall@{RECALL}"],
            "chance": guessed(right, RECALL),
            "count": len(captions),
        },
        "i2t": {
            "value": found[f"text_retrieval_recall@{RECALL}"],
            "chance": guessed(right.T, RECALL),
            "count": len(shown.records),
        },
    }


def guessed(right: Tensor, k: int) -> float:
    """Recall@k of a random order: the chance that none of k drawn things is right, taken from 1, over all queries."""
    total, chances = right.shape[1], []
    for hits in right.sum(dim=1).tolist():
        missed = 1.0
        for drawn in range(min(k, total)):
            missed *= max(0, total - hits - drawn) / (total - drawn)
        chances.append(1 - missed)
    return sum(chances) / len(chances)


def neighbours(encoder: Encoder, pictures: Pictures) -> tuple[list[float], float, Figure]:
    """Emoji subgroup of concepts that were not trained, by the nearest trained drawings, behind each block."""
    bank, asked = pictures.of("train", grouped=True), pictures.of("new")
    groups = sorted({record.group for record in bank.records})
    labels, targets = labels_of(bank.records, groups), labels_of(asked.records, groups)
    known = targets >= 0  # a subgroup can have no trained concept
    accuracies = [
        knn(kept, labels, found[known.to(found.device)], targets[known])
        for kept, found in zip(encoder.layers(bank.pixels), encoder.layers(asked.pixels), strict=True)
    ]
    commonest = int(torch.bincount(labels).argmax())
    chance = (targets[known] == commonest).double().mean().item()
    return accuracies[:-1], accuracies[-1], {"chance": chance, "count": int(known.sum())}


def labels_of(records: Sequence[Record], groups: Sequence[str]) -> Tensor:
    """Place of each record's subgroup, -1 where it is none of them."""
    return torch.tensor([groups.index(r.group) if r.group in groups else -1 for r in records])


def knn(bank: Tensor, labels: Tensor, asked: Tensor, targets: Tensor, k: int = NEIGHBOURS) -> float:
    """Share of rows whose label is voted for by the k nearest of the bank; cosines about the bank's mean are votes.

    Args:
        bank, asked: float (N, W) and (M, W).
        labels, targets: integer (N,) and (M,).
    """
    middle = bank.float().mean(dim=0)
    kept, rows = F.normalize(bank.float() - middle, dim=1), F.normalize(asked.float() - middle, dim=1)
    near = (rows @ kept.T).topk(min(k, len(bank)), dim=1)
    votes = rows.new_zeros(len(rows), int(labels.max()) + 1)
    votes.scatter_add_(1, labels.to(bank.device)[near.indices], near.values)
    return (votes.argmax(dim=1).cpu() == targets).double().mean().item()
