"""The text tower: PE's own, small, distilled from the sentence encoder as the shared space sees it.

Its token table starts from the sentence encoder's view of each token's spelling, reduced to the tower's width; the
table is most of the tower, and so it knows rare words before the first step.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from midsight.configs import PETextConfig
from midsight.pe import TextTransformer
from midsight.tasks.templates import get_templates
from midsight.train.embedded.sentences import SentenceEncoder
from midsight.train.embedded.space import Space
from midsight.train.embedded.vocabulary import Vocabulary
from midsight.transforms.tokenizer import END_ID, TextTokenizer

_PLAIN = (
    "{c}", "a {c}", "{c}.", "a photo of a {c}.", "a picture of a {c}", "the {c}", "an image of {c}", "a {c} emoji",
    "a drawing of a {c}", "clip art of a {c}", "a photo of {c}", "a video of a {c}.",
)  # fmt: skip
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TextConfig:
    """The tower and its distillation."""

    width: int = 192
    heads: int = 3
    layers: int = 4
    context_length: int = 32
    steps: int = 3000
    batch: int = 512
    lr: float = 1e-3
    table_std: float = 0.1  # of the token table at the start
    class_share: float = 0.25  # share of each batch that are names of the thousand classes
    caption_share: float = 0.2  # share that are captions of drawings
    templated: float = 0.5  # share of batches in which every text stands in a template
    relations: float = 1.0  # weight of the likenesses inside a batch, beside the cosine to the target


def new_tower(
    config: TextConfig, output_dim: int, encoder: SentenceEncoder, tokenizer: TextTokenizer
) -> TextTransformer:
    """The untrained tower with its token table filled."""
    tower = empty_tower(config, output_dim)
    spelled = [tokenizer.decode([i]).strip() or "." for i in range(END_ID - 1)]
    vectors = encoder(spelled)
    vectors = vectors - vectors.mean(0)
    _, _, axes = torch.linalg.svd(vectors.T @ vectors)
    table = vectors @ axes[: config.width].T
    with torch.no_grad():
        tower.token_embedding.weight[: len(table)] = table * (config.table_std / table.std())
    return tower


def empty_tower(config: TextConfig, output_dim: int) -> TextTransformer:
    """The tower by its configuration."""
    return TextTransformer(PETextConfig(config.context_length, config.width, config.heads, config.layers, output_dim))


def encode(tower: TextTransformer, tokenizer: TextTokenizer, texts: Sequence[str]) -> Tensor:
    """Unit embeddings (N, width) of texts, without the columns that only pad."""
    tokens = tokenizer(list(texts))
    longest = int((tokens == END_ID).int().argmax(1).max()) + 1
    return F.normalize(tower(tokens[:, :longest]).float(), dim=-1)


@torch.inference_mode()
def encode_all(tower: TextTransformer, tokenizer: TextTokenizer, texts: Sequence[str]) -> Tensor:
    """As `encode` for any number of texts, those of like length together."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    result = torch.empty(len(texts), tower.text_config.output_dim)
    for start in range(0, len(order), 512):
        rows = order[start : start + 512]
        result[rows] = encode(tower, tokenizer, [texts[i] for i in rows])
    return result


class TextBatches:
    """Draws texts and their targets: class names and captions more often than the rest, bare or in templates."""

    def __init__(self, config: TextConfig, vocabulary: Vocabulary, space: Space, generator: torch.Generator) -> None:
        self.config, self.texts, self.generator = config, vocabulary.texts, generator
        self.targets = torch.cat([space.text(part) for part in vocabulary.sentences.split(4096)])
        self.classes = torch.tensor(sorted({i for each in vocabulary.class_names for i in each}))
        self.broad = vocabulary.broad.nonzero()[:, 0]
        self.captions = torch.tensor(sorted({i for each in vocabulary.captions for i in each}))
        self.templates = (*_PLAIN, *get_templates("imagenet1k"))

    def __call__(self) -> tuple[list[str], Tensor]:
        size = self.config.batch
        classes, captions = int(size * self.config.class_share), int(size * self.config.caption_share)
        pools = ((self.classes, classes), (self.broad, size // 16), (self.captions, captions))
        rows = torch.cat([pool[self._draw(len(pool), count)] for pool, count in pools])
        rows = torch.cat((rows, self._draw(len(self.texts), size - len(rows)))).unique()
        texts = [self.texts[row] for row in rows.tolist()]
        if torch.rand(1, generator=self.generator).item() < self.config.templated:
            lots = self._draw(len(self.templates), len(texts)).tolist()
            texts = [self.templates[lot].replace("{c}", text) for lot, text in zip(lots, texts, strict=True)]
        return texts, self.targets[rows]

    def _draw(self, below: int, count: int) -> Tensor:
        return torch.randint(below, (count,), generator=self.generator)


def train_text(
    config: TextConfig, tower: TextTransformer, tokenizer: TextTokenizer, batches: TextBatches
) -> TextTransformer:
    """Distil: cosine to the target of each text, and the likenesses of all texts of a batch."""
    decayed = [p for p in tower.parameters() if p.ndim > 1]
    plain = [p for p in tower.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, config.lr, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.lr, config.steps, pct_start=0.05)
    for step in range(config.steps):
        texts, target = batches()
        with torch.autocast("cpu", torch.bfloat16):
            embedded = encode(tower, tokenizer, texts)
        cosine = 1 - (embedded * target).sum(-1).mean()
        relations = _relations(embedded, target)
        optimiser.zero_grad()
        (10 * cosine + config.relations * relations).backward()
        torch.nn.utils.clip_grad_norm_(tower.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 50 == 0 or step == config.steps - 1:
            log.info("text %d: 1 - cosine %.4f, relations %.4f", step, cosine.item(), relations.item())
    return tower.eval()


def _relations(embedded: Tensor, target: Tensor) -> Tensor:
    """KL between the softmax of likenesses to the other texts' targets, in the tower and in the target space."""
    wanted = (20 * target @ target.T).softmax(-1)
    return F.kl_div((20 * embedded @ target.T).log_softmax(-1), wanted, reduction="batchmean")
