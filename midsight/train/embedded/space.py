"""The shared space, found on mean-pooled trunk features: a small head for pictures and a small map of sentences.

The head is what the tower's attention pooling is when it attends evenly: a linear map, then x + MLP(norm(x)), then a
projection. It is "the answer in words": a thousand of its hidden units are the classes, each adding the embedding of
its name, so that a picture's embedding is the sum of the names of its likely classes. Nothing in it is learnt from
pictures but gains, so it holds for photographs unlike the few at hand; what is trained is where the names lie.

The trunk's answer is a known function of the pooled features, so every feature vector has an exact label, also one
that no picture gave: features pushed towards a class practise the classes that the few photographs never show.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from midsight.errors import ConfigError
from midsight.train.embedded.trunk import Trunk
from midsight.train.embedded.vocabulary import Vocabulary

Texts = Callable[[Tensor], Tensor]  # rows of the vocabulary to unit embeddings
_RESIDUAL = 0.05  # spread of the head's linear part, small beside the names that are added to it
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SpaceConfig:
    """Optimisation of the shared space."""

    width: int = 384  # of the space
    hidden: int = 512  # of the sentence map
    steps: int = 4000
    batch: int = 512
    lr: float = 1e-3
    pushed: float = 0.5  # share of feature vectors pushed towards a class
    lists: float = 1.0  # weights of the losses: lists of names,
    drawings: float = 0.1  # captions of drawings,
    geometry: float = 3.0  # likeness of texts
    drawings_have_captions_only: bool = True  # leave the trunk's answer about a drawing out


class ImageHead(nn.Module):
    """Pooled features (B, 1280) to (B, width); names are those of `AttentionPooling`, its attention taken out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(1280, width)
        self.layernorm = nn.LayerNorm(width, eps=1e-5)
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)
        self.proj = nn.Parameter(torch.eye(width))

    def forward(self, pooled: Tensor) -> Tensor:
        x = self.linear(pooled)
        return (x + self.c_proj(F.gelu(self.c_fc(self.layernorm(x))))) @ self.proj


@torch.no_grad()
def start_head(head: ImageHead, trunk: Trunk, features: Tensor) -> None:
    """Set all of the head but the names: hidden unit c answers to how far class c stands out.

    The linear map keeps the directions in which the logits of `features` (N, 1280) differ most; the units' gain and
    threshold are set so that the likeliest class answers with about 5 and the twentieth hardly at all.

    Raises:
        ConfigError: the head has fewer hidden units than there are classes.
    """
    width, classes = head.linear.out_features, len(trunk.bias)
    if 4 * width < classes:
        raise ConfigError(
            f"width {width} gives {4 * width} hidden units for {classes} classes; take at least {classes // 4}"
        )
    weight, bias, mean = trunk.weight - trunk.weight.mean(0), trunk.bias - trunk.bias.mean(), features.mean(0)
    varied = (features - mean) @ weight.T
    axes = torch.linalg.eigh(varied.T @ varied / len(varied)).eigenvectors[:, -width:]  # classes, width
    down = axes.T @ weight  # width, 1280
    spread = (varied @ axes).std(1).mean()
    head.linear.weight.copy_(down * (_RESIDUAL / spread))
    head.linear.bias.copy_(-mean @ down.T * (_RESIDUAL / spread))
    constant = (bias + weight @ mean) / spread
    answers = head.layernorm(head.linear(features)) @ axes.T + constant
    best = answers.topk(20).values.median(0).values
    gain = 8 / (best[0] - best[19])
    head.c_fc.weight[:classes] = gain * axes
    head.c_fc.bias[:classes] = gain * constant + 5 - gain * best[0]
    head.c_proj.weight.zero_()
    head.c_proj.bias.zero_()


class Space(nn.Module):
    """`image`: pooled features (B, 1280) to (B, width); `text`: sentence embeddings (N, 384) to unit (N, width)."""

    def __init__(self, config: SpaceConfig, centre: Tensor) -> None:
        super().__init__()
        inputs = len(centre)
        self.image = ImageHead(config.width)
        self.straight = nn.Linear(inputs, config.width, bias=False)
        last = nn.Linear(config.hidden, config.width)
        self.bent = nn.Sequential(nn.Linear(inputs, config.hidden), nn.GELU(), last)
        self.log_scale = nn.Parameter(torch.tensor(40.0).log())
        self.register_buffer("centre", centre)
        self.centre: Tensor
        nn.init.eye_(self.straight.weight)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def text(self, sentences: Tensor) -> Tensor:
        centred = F.normalize(sentences - self.centre, dim=-1)
        return F.normalize(self.straight(centred) + self.bent(centred), dim=-1)

    def forward(self, pooled: Tensor) -> Tensor:
        return F.normalize(self.image(pooled), dim=-1)

    def in_words(self, pooled: Tensor, names: Tensor) -> Tensor:
        """As `forward`, with these class names (1000, width) in place of the stored ones: unit rows (B, width)."""
        head = self.image
        with torch.no_grad():
            linear = head.linear(pooled)
            units = F.gelu(head.c_fc(head.layernorm(linear)))[:, : len(names)]
        return F.normalize(linear + units @ names, dim=-1)

    @torch.no_grad()
    def store_names(self, names: Tensor) -> None:
        """Keep class names (1000, width) in the head."""
        self.image.c_proj.weight[:, : len(names)] = names.T


class Pusher:
    """Moves features towards classes, along the features' own covariance, until the class nearly or clearly wins."""

    def __init__(self, trunk: Trunk, features: Tensor) -> None:
        self.trunk = trunk
        centred = features - features.mean(0)
        covariance = centred.T @ centred / len(features)
        self.directions = (trunk.weight - trunk.weight.mean(0)) @ covariance  # 1000, 1280

    def __call__(self, features: Tensor, generator: torch.Generator) -> Tensor:
        """Pooled features (B, 1280), each pushed to a class drawn by lot, winning by -2 to 8 logits."""
        classes, margin = self._goal(len(features), generator)
        for _ in range(2):  # clamping and a change of the runner-up take back a part of the first push
            features = (features + self._step(features, classes, margin)).clamp(0, 6)
        return features

    def maps(self, maps: Tensor, generator: torch.Generator) -> Tensor:
        """Feature maps (B, 1280, h, w), each pushed inside one rectangle so that the pooled features move as above."""
        count, _, height, width = maps.shape
        classes, margin = self._goal(count, generator)
        inside = _rectangles(count, height, width, generator)[:, None]
        share = inside.mean((2, 3))
        for _ in range(2):
            step = self._step(maps.mean((2, 3)), classes, margin) / share
            maps = (maps + step[:, :, None, None] * inside).clamp(0, 6)
        return maps

    def _goal(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        classes = torch.randint(len(self.directions), (count,), generator=generator)
        return classes, torch.rand(count, generator=generator) * 10 - 2

    def _step(self, features: Tensor, classes: Tensor, margin: Tensor) -> Tensor:
        logits = self.trunk.logits(features)
        own = logits.gather(1, classes[:, None])[:, 0]
        rival, index = logits.scatter(1, classes[:, None], -torch.inf).max(1)
        direction = self.directions[classes]
        slope = ((self.trunk.weight[classes] - self.trunk.weight[index]) * direction).sum(1)
        return ((margin + rival - own) / slope.clamp(min=1e-6)).clamp(min=0)[:, None] * direction


def _rectangles(count: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Masks (count, height, width), 1 inside a rectangle of half to all of each side."""
    masks = torch.zeros(count, height, width)
    for mask, lots in zip(masks, torch.rand(count, 4, generator=generator).tolist(), strict=True):
        h, w = round(height * (0.5 + lots[0] / 2)), round(width * (0.5 + lots[1] / 2))
        top, left = int((height - h + 1) * lots[2]), int((width - w + 1) * lots[3])
        mask[top : top + h, left : left + w] = 1
    return masks


def train_space(
    config: SpaceConfig,
    trunk: Trunk,
    vocabulary: Vocabulary,
    features: Tensor,
    shown: Tensor,
    seed: int,
    left_out: Tensor | None = None,
) -> Space:
    """Set up, then tune, the shared space.

    Args:
        features: pooled trunk features of the training pictures (N, 1280).
        shown: the drawing each shows (N,), -1 for photographs.
        left_out: classes (1000,) bool whose names and pushes are never used, to measure unknown names.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    space = Space(config, vocabulary.sentences[: vocabulary.names].mean(0))
    start_head(space.image, trunk, features)
    space.image.requires_grad_(False)
    losses = Losses(config, trunk, vocabulary, generator, left_out)
    pusher = Pusher(trunk, features[shown < 0])
    text = [p for n, p in space.named_parameters() if p.requires_grad and n != "log_scale"]
    rates = [config.lr, config.lr * 4]
    groups = [{"params": group, "lr": lr} for group, lr in zip((text, [space.log_scale]), rates, strict=True)]
    optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rates, config.steps, pct_start=0.05)
    for step in range(config.steps):
        rows = torch.randint(len(features), (config.batch,), generator=generator)
        batch, drawing = features[rows], shown[rows].clone()
        pushed = torch.rand(config.batch, generator=generator) < config.pushed
        batch[pushed] = pusher(batch[pushed], generator)
        drawing[pushed] = -1
        answer = trunk.logits(batch)
        scale = space.log_scale.exp().clamp(max=100)
        image = space.in_words(batch, _some_names(space, vocabulary, generator))
        parts = losses(image, answer, drawing, lambda rows: space.text(vocabulary.sentences[rows]), scale)
        parts["geometry"] = config.geometry * losses.geometry(space)
        optimiser.zero_grad()
        sum(parts.values()).backward()  # type: ignore[union-attr]
        optimiser.step()
        schedule.step()
        if step % 100 == 0 or step == config.steps - 1:
            log.info("space %d: %s", step, ", ".join(f"{k} {v.item():.3f}" for k, v in parts.items()))
    space.eval().requires_grad_(False)
    space.store_names(class_matrix(space.text(vocabulary.sentences[: vocabulary.names]), vocabulary))
    return space


def _some_names(space: Space, vocabulary: Vocabulary, generator: torch.Generator) -> Tensor:
    """Each class under one of its names, by lot: unit rows (1000, width)."""
    lots = torch.randint(1 << 30, (len(vocabulary.class_names),), generator=generator).tolist()
    rows = [own[lot % len(own)] for own, lot in zip(vocabulary.class_names, lots, strict=True)]
    return space.text(vocabulary.sentences[rows])


def class_matrix(texts: Tensor, vocabulary: Vocabulary) -> Tensor:
    """One unit row a class: the mean of the embeddings of its names, (1000, width)."""
    return F.normalize(torch.stack([texts[rows].mean(0) for rows in vocabulary.class_names]), dim=-1)


class Losses:
    """What ties pictures to names: the thousand classes, lists of names, captions of drawings, likeness of texts."""

    def __init__(
        self,
        config: SpaceConfig,
        trunk: Trunk,
        vocabulary: Vocabulary,
        generator: torch.Generator,
        left_out: Tensor | None = None,
    ) -> None:
        self.config, self.trunk, self.vocabulary, self.generator = config, trunk, vocabulary, generator
        keep = torch.ones(1000, dtype=torch.bool) if left_out is None else ~left_out
        self.classes = keep.nonzero()[:, 0]
        usable = vocabulary.affinity[:, keep].amax(1) > 0
        exact = vocabulary.affinity.amax(1) >= 1
        self.broad = (vocabulary.broad & usable).nonzero()[:, 0]
        self.fine = (~vocabulary.broad & exact & usable).nonzero()[:, 0]
        self.other = (~exact).nonzero()[:, 0]
        self.known = sorted({i for each in vocabulary.captions for i in each})

    def __call__(
        self, image: Tensor, answer: Tensor, drawing: Tensor, texts: Texts, scale: Tensor
    ) -> dict[str, Tensor]:
        """The weighted losses of a batch.

        Args:
            image: unit embeddings (B, width).
            answer: the trunk's logits for the same pictures (B, 1000).
            drawing: the drawing each shows (B,), -1 for none.
            texts: rows of the vocabulary to unit embeddings (N, width).
            scale: of the logits.
        """
        plain = drawing < 0 if self.config.drawings_have_captions_only else torch.ones_like(drawing, dtype=torch.bool)
        parts = {
            "classes": self._classes(image[plain], answer[plain], texts, scale),
            "lists": self.config.lists * self._lists(image[plain], answer[plain], texts, scale),
        }
        if (drawing >= 0).any():
            own = drawing[drawing >= 0].tolist()
            parts["drawings"] = self.config.drawings * self._drawings(image[drawing >= 0], own, texts, scale)
        return parts

    def _draw(self, pool: Tensor, count: int) -> Tensor:
        return pool[torch.randint(len(pool), (count,), generator=self.generator)]

    def _classes(self, image: Tensor, answer: Tensor, texts: Texts, scale: Tensor) -> Tensor:
        """KL to the trunk's softmax over the classes, each under one of its names."""
        lots = torch.randint(1 << 30, (len(self.classes),), generator=self.generator).tolist()
        names = [self.vocabulary.class_names[c] for c in self.classes.tolist()]
        rows = torch.tensor([own[lot % len(own)] for own, lot in zip(names, lots, strict=True)])
        logits = scale * image @ texts(rows).T
        target = answer[:, self.classes].softmax(-1)
        return F.kl_div(logits.log_softmax(-1), target, reduction="batchmean")

    def _lists(self, image: Tensor, answer: Tensor, texts: Texts, scale: Tensor) -> Tensor:
        """Cross-entropy over a list as a user might give: names, broad names, other things."""
        rows = torch.cat((self._draw(self.broad, 48), self._draw(self.fine, 96), self._draw(self.other, 96))).unique()
        length = int(2 ** (4 + 4 * torch.rand(1, generator=self.generator).item()))  # 16 to 256
        rows = rows[torch.randperm(len(rows), generator=self.generator)[:length]]
        relevance = answer.softmax(-1) @ self.vocabulary.affinity[rows].T  # B, list
        target = relevance / relevance.sum(-1, keepdim=True).clamp(min=1e-6)
        logits = scale * image @ texts(rows).T
        each = -(target * logits.log_softmax(-1)).sum(-1) - torch.special.entr(target).sum(-1)
        return (each * relevance.amax(-1)).mean()

    def _drawings(self, image: Tensor, drawings: list[int], texts: Texts, scale: Tensor) -> Tensor:
        """Each drawing against its captions and 512 others; its name weighs as much as its keywords together."""
        own = [self.vocabulary.captions[d] for d in drawings]
        lots = torch.randint(len(self.known), (384,), generator=self.generator).tolist()
        rows = sorted({i for each in own for i in each} | {self.known[lot] for lot in lots})
        column = {row: index for index, row in enumerate(rows)}
        target = torch.zeros(len(own), len(rows))
        for index, each in enumerate(own):
            for row in each[1:]:
                target[index, column[row]] += 0.5 / (len(each) - 1)
            target[index, column[each[0]]] += 1 - target[index].sum()
        logits = scale * image @ texts(torch.tensor(rows)).T
        return F.cross_entropy(logits, target)

    def geometry(self, space: Space) -> Tensor:
        """Texts stay as near to each other as their sentences are."""
        rows = torch.randint(len(self.vocabulary.texts), (512,), generator=self.generator)
        sentences = F.normalize(self.vocabulary.sentences[rows] - space.centre, dim=-1)
        texts = space.text(self.vocabulary.sentences[rows])
        hide = torch.eye(len(rows), dtype=torch.bool)
        target = (10 * sentences @ sentences.T).masked_fill(hide, -1e4).softmax(-1)
        return F.kl_div((10 * texts @ texts.T).masked_fill(hide, -1e4).log_softmax(-1), target, reduction="batchmean")
