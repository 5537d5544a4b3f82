"""The tower's pooling, fitted on mean-pooled trunk features before any block is trained: seconds instead of hours.

While the blocks are the identity and attention is even, the tower's embedding is a function of the mean-pooled trunk
features alone, and so is the trunk's answer. Every feature vector thus has an exact label, also one that no picture
gave: features pushed towards a class practise the classes that the few photographs never show.
"""

import logging
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from midsight.pe import VisionTransformer
from midsight.train.embedded.features import Features
from midsight.train.embedded.trunk import Trunk
from midsight.train.embedded.vocabulary import Vocabulary

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HeadConfig:
    """The fit; none of it is published."""

    steps: int = 3000
    batch: int = 512
    lr: float = 1e-4
    pushed: float = 0.5  # share of photographs pushed towards a class
    likeness: float = 10.0  # weight of one minus the cosine to the teacher's place,
    ranking: float = 1.0  # of the ranks of texts for each photograph,
    drawings: float = 0.5  # of the captions of drawings among others
    texts: int = 1024  # texts a step that are ranked
    scale: float = 100.0  # of their logits
    caption_scale: float = 40.0  # of the captions'


class Pusher:
    """Moves features towards classes, along the features' own covariance, until the class nearly or clearly wins."""

    def __init__(self, trunk: Trunk, features: Tensor) -> None:
        self.trunk = trunk
        centred = features - features.mean(0)
        covariance = centred.T @ centred / len(features)
        self.directions = (trunk.weight - trunk.weight.mean(0)) @ covariance  # 1000, 1280

    def __call__(self, features: Tensor, generator: torch.Generator) -> Tensor:
        """Pooled features (B, 1280), each pushed to a class drawn by lot, winning by -2 to 8 logits."""
        classes = torch.randint(len(self.directions), (len(features),), generator=generator)
        margin = torch.rand(len(features), generator=generator) * 10 - 2
        for _ in range(2):  # clamping and a change of the runner-up take back a part of the first push
            features = (features + self._step(features, classes, margin)).clamp(0, 6)
        return features

    def _step(self, features: Tensor, classes: Tensor, margin: Tensor) -> Tensor:
        logits = self.trunk.logits(features)
        own = logits.gather(1, classes[:, None])[:, 0]
        rival, index = logits.scatter(1, classes[:, None], -torch.inf).max(1)
        direction = self.directions[classes]
        slope = ((self.trunk.weight[classes] - self.trunk.weight[index]) * direction).sum(1)
        return ((margin + rival - own) / slope.clamp(min=1e-6)).clamp(min=0)[:, None] * direction


def embed_pooled(tower: VisionTransformer, pooled: Tensor) -> Tensor:
    """Unit embeddings (B, output_dim) of mean-pooled stem features (B, 1280), the blocks left out."""
    tokens = tower.conv1(pooled[:, :, None, None]).flatten(2).transpose(1, 2)  # B, 1, W
    return F.normalize(tower.attn_pool(tokens).squeeze(1) @ tower.proj, dim=-1)


def fit_head(
    config: HeadConfig, tower: VisionTransformer, trunk: Trunk, words: Vocabulary, features: Features, seed: int
) -> None:
    """Train what is linear or pointwise behind the stem, in place."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)

    batches = _Batches(config, trunk, words, features, generator)
    pusher = Pusher(trunk, features.pooled[features.drawings < 0])
    pool = tower.attn_pool
    modules = (tower.conv1, pool.layernorm, pool.mlp)
    trained = [p for module in modules for p in module.parameters()] + [tower.proj, pool.attn.out_proj.bias]
    optimiser = torch.optim.AdamW(trained, config.lr, betas=(0.9, 0.98), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.lr, config.steps, pct_start=0.05)
    for step in range(config.steps):
        parts = batches.losses(tower, pusher)
        optimiser.zero_grad()
        sum(parts.values()).backward()  # type: ignore[union-attr]
        optimiser.step()
        schedule.step()
        if step % 200 == 0 or step == config.steps - 1:
            log.info("head %d: %s", step, ", ".join(f"{key} {value.item():.3f}" for key, value in parts.items()))


class _Batches:
    """Draws features with their labels, and weighs the losses."""

    def __init__(
        self, config: HeadConfig, trunk: Trunk, words: Vocabulary, features: Features, generator: torch.Generator
    ) -> None:
        self.config, self.trunk, self.words, self.features, self.generator = config, trunk, words, features, generator
        self.rows = {kind: mask.nonzero()[:, 0] for kind, mask in self._kinds().items()}
        self.captions = torch.tensor(sorted({row for rows in words.captions for row in rows}))

    def _kinds(self) -> dict[str, Tensor]:
        return {"photographs": self.features.drawings < 0, "drawings": self.features.drawings >= 0}

    def losses(self, tower: VisionTransformer, pusher: Pusher) -> dict[str, Tensor]:
        half = self.config.batch // 2
        return self._photographs(tower, pusher, half) | self._drawings(tower, half)

    def _photographs(self, tower: VisionTransformer, pusher: Pusher, count: int) -> dict[str, Tensor]:
        config, words = self.config, self.words
        pooled = self.features.pooled[self._draw(self.rows["photographs"], count)]
        pushed = int(count * config.pushed)
        pooled = torch.cat((pusher(pooled[:pushed], self.generator), pooled[pushed:]))
        wanted = words.words.image(self.trunk.logits(pooled).softmax(-1))
        found = embed_pooled(tower, pooled)
        texts = words.targets[torch.randint(words.names, (config.texts,), generator=self.generator)].float()
        ranks, goal = ((config.scale * x @ texts.T).log_softmax(-1) for x in (found, wanted))
        return {
            "likeness": config.likeness * (1 - (found * wanted).sum(-1)).mean(),
            "ranking": config.ranking * F.kl_div(ranks, goal, reduction="batchmean", log_target=True),
        }

    def _drawings(self, tower: VisionTransformer, count: int) -> dict[str, Tensor]:
        """Each drawing's name among the names of the others and more."""
        config, words = self.config, self.words
        rows = self._draw(self.rows["drawings"], count)
        found = embed_pooled(tower, self.features.pooled[rows])
        own = torch.tensor([words.captions[drawing][0] for drawing in self.features.drawings[rows].tolist()])
        texts = torch.cat((own, self._draw(self.captions, config.texts))).unique()
        logits = config.caption_scale * found @ words.targets[texts].float().T
        return {"drawings": config.drawings * F.cross_entropy(logits, torch.searchsorted(texts, own))}

    def _draw(self, pool: Tensor, count: int) -> Tensor:
        return pool[torch.randint(len(pool), (count,), generator=self.generator)]
