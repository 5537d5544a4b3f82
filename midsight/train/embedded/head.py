"""The tower's pooling learns drawings on mean-pooled trunk features: seconds instead of hours, and no block yet.

While the blocks are the identity and attention is even, the tower's embedding is a function of the mean-pooled trunk
features alone. What knows photographs stays as it starts: the linear map and the hidden units of the thousand classes.
The spare hidden units of the pooling's MLP learn the names of drawings, and are held silent on photographs, also on
features pushed towards a class, which stand for what the few photographs never show. Trained as a whole on these
pictures, the head forgets photographs that it has not seen (docs/embedded.md, the log of tries).
"""

import copy
import functools
import logging
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from midsight.pe import VisionTransformer
from midsight.train.embedded.curves import Report
from midsight.train.embedded.features import Features
from midsight.train.embedded.trunk import Trunk
from midsight.train.embedded.vocabulary import Vocabulary

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HeadConfig:
    """The fit; none of it is published."""

    steps: int = 1200
    batch: int = 512
    lr: float = 5e-4
    pushed: float = 0.5  # share of photographs pushed towards a class
    anchor: float = 40.0  # weight of staying where photographs are, one minus the cosine,
    drawings: float = 1.0  # beside the names of drawings among others
    texts: int = 1024  # texts a step that these stand among
    scale: float = 40.0  # of their logits
    quiet: float = -1.0  # bias of the spare units at the start


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
    config: HeadConfig,
    tower: VisionTransformer,
    trunk: Trunk,
    words: Vocabulary,
    features: Features,
    seed: int,
    report: Report | None = None,
) -> None:
    """Train the spare hidden units of the pooling's MLP, in place.

    Args:
        features: of the training pictures; both photographs and drawings must be among them.
        report: called with the losses of every hundredth step.
    """
    generator = torch.Generator().manual_seed(seed)
    batches = _Batches(config, trunk, words, features, tower, generator)
    spare = _wake_spare_units(tower, len(trunk.bias), config.quiet, generator)
    optimiser = torch.optim.AdamW(spare, config.lr, betas=(0.9, 0.98), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.lr, config.steps, pct_start=0.05)
    for step in range(config.steps):
        parts = batches.losses(tower)
        optimiser.zero_grad()
        sum(parts.values()).backward()  # type: ignore[union-attr]
        optimiser.step()
        schedule.step()
        if step % 100 == 0 or step == config.steps - 1:
            log.info("head %d: %s", step, ", ".join(f"{key} {value.item():.3f}" for key, value in parts.items()))
            if report is not None:
                report({"step": step, **{key: value.item() for key, value in parts.items()}})


def _wake_spare_units(tower: VisionTransformer, classes: int, quiet: float, generator: torch.Generator) -> list[Tensor]:
    """Small random weights for the units behind the classes; only these get gradients."""
    first, last = tower.attn_pool.mlp.c_fc, tower.attn_pool.mlp.c_proj
    tower.requires_grad_(False)
    with torch.no_grad():
        first.weight[classes:] = torch.randn(first.weight[classes:].shape, generator=generator) * 0.05
        first.bias[classes:] = quiet
        last.weight[:, classes:] = torch.randn(last.weight[:, classes:].shape, generator=generator) * 0.01
    spare = (torch.arange(len(first.bias)) >= classes).float()
    for parameter, mask in ((first.weight, spare[:, None]), (first.bias, spare), (last.weight, spare)):
        parameter.requires_grad_(True)
        parameter.register_hook(functools.partial(torch.mul, mask))
    return [first.weight, first.bias, last.weight]


class _Batches:
    """Draws features with their labels, and weighs the losses."""

    def __init__(
        self,
        config: HeadConfig,
        trunk: Trunk,
        words: Vocabulary,
        features: Features,
        tower: VisionTransformer,
        generator: torch.Generator,
    ) -> None:
        self.config, self.words, self.features, self.generator = config, words, features, generator
        self.photographs = (features.drawings < 0).nonzero()[:, 0]
        self.drawings = (features.drawings >= 0).nonzero()[:, 0]
        self.captions = torch.tensor(sorted({row for rows in words.captions for row in rows}))
        self.pusher = Pusher(trunk, features.pooled[self.photographs])
        self.start = copy.deepcopy(tower).requires_grad_(False)

    def losses(self, tower: VisionTransformer) -> dict[str, Tensor]:
        """Weighted, of half a batch each."""
        half = self.config.batch // 2
        return {"anchor": self._photographs(tower, half), "drawings": self._drawings(tower, half)}

    def _photographs(self, tower: VisionTransformer, count: int) -> Tensor:
        pooled = self.features.pooled[self._draw(self.photographs, count)]
        pushed = int(count * self.config.pushed)
        pooled = torch.cat((self.pusher(pooled[:pushed], self.generator), pooled[pushed:]))
        likeness = (embed_pooled(tower, pooled) * embed_pooled(self.start, pooled)).sum(-1)
        return self.config.anchor * (1 - likeness).mean()

    def _drawings(self, tower: VisionTransformer, count: int) -> Tensor:
        """Each drawing's name among the names of the others and more."""
        config, words = self.config, self.words
        rows = self._draw(self.drawings, count)
        found = embed_pooled(tower, self.features.pooled[rows])
        own = torch.tensor([words.captions[drawing][0] for drawing in self.features.drawings[rows].tolist()])
        texts = torch.cat((own, self._draw(self.captions, config.texts))).unique()
        logits = config.scale * found @ words.targets[texts].float().T
        return config.drawings * F.cross_entropy(logits, torch.searchsorted(texts, own))

    def _draw(self, pool: Tensor, count: int) -> Tensor:
        return pool[torch.randint(len(pool), (count,), generator=self.generator)]
