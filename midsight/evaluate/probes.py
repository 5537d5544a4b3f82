"""Probes on the frozen features of many layers at once: parameters (L, ...), one product for all layers.

Features are standardised first, each channel of each layer by the mean and standard deviation over the training set:
what BatchNorm does in PE's segmentation probe, with statistics that no batch decides. So layers of any scale meet the
same learning rate. Every layer begins with the same weights and sees the same pictures in the same order, and no
layer's loss reaches another one's weights: a layer comes out as it would alone.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from midsight.errors import ConfigError, TrainingError

NEIGHBOURS = 10
TEMPERATURE = 0.07  # of the votes of neighbours, as in DINO's evaluation
EPS = 1e-4  # of a layer's mean variance, added to each channel's: dead channels stay small
SPREAD = 0.01  # of first weights, as in the linear probe of `midsight.tasks.heads`
MLP_RATIO = 4
ITERATIONS = 300  # of the logistic regression


@dataclass(frozen=True)
class ProbeConfig:
    """How probes are trained: AdamW with a rate that rises over a twentieth of the steps and falls along a cosine."""

    epochs: int
    batch_size: int
    lr: float
    least_steps: int  # of a small set, whatever its epochs
    weight_decay: float = 1e-4
    warmup: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1 or self.least_steps < 1:
            raise ConfigError(f"epochs, batch_size and least_steps must be at least 1, got {self}")
        if not self.lr > 0 or self.weight_decay < 0 or not 0 <= self.warmup < 1:
            raise ConfigError(f"lr must be above 0, weight_decay at least 0, warmup from 0 to below 1, got {self}")

    def steps(self, pictures: int) -> int:
        """All steps over so many pictures."""
        return max(self.least_steps, self.epochs * -(-pictures // self.batch_size))

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of a step (0-based)."""
        rising = max(1, round(self.warmup * steps))
        if step < rising:
            return self.lr * (step + 1) / rising
        return self.lr * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising))) / 2


class LinearProbe(nn.Module):
    """A linear map of each token: (L, n, W) to (L, n, K)."""

    def __init__(self, layers: int, width: int, outputs: int, seed: int = 0) -> None:
        super().__init__()
        self.weight = nn.Parameter(_alike(layers, (outputs, width), SPREAD, seed))
        self.bias = nn.Parameter(torch.zeros(layers, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias[:, None], x, self.weight.mT)


class AttentionProbe(nn.Module):
    """One learned query attends to all tokens, then x + MLP(LayerNorm(x)), then a linear map to classes.

    The form of the published attention pooling, begun at random. Keys and values are never formed: scores are products
    of tokens with the query seen through the key weights, and values are taken of the weighted mean.

    Source: PE paper, B.2 (classification: a cross-attention block on the frozen layer).
    """

    def __init__(self, layers: int, width: int, heads: int, classes: int, seed: int = 0) -> None:
        super().__init__()
        self.heads = heads
        std = width**-0.5

        def new(number: int, *shape: int, spread: float = std) -> nn.Parameter:
            return nn.Parameter(_alike(layers, shape, spread, seed + number))

        self.query = new(1, width, spread=1.0)  # after its projection
        self.key, self.value, self.out = new(2, width, width), new(3, width, width), new(4, width, width)
        self.value_bias, self.out_bias = (nn.Parameter(torch.zeros(layers, width)) for _ in range(2))
        self.norm_weight = nn.Parameter(torch.ones(layers, width))
        self.norm_bias = nn.Parameter(torch.zeros(layers, width))
        self.up = LinearProbe(layers, width, MLP_RATIO * width)
        self.down = LinearProbe(layers, MLP_RATIO * width, width)
        self.up.weight.data = _alike(layers, (MLP_RATIO * width, width), std, seed + 5)
        self.down.weight.data = _alike(layers, (width, MLP_RATIO * width), (MLP_RATIO * width) ** -0.5, seed + 6)
        self.classes = LinearProbe(layers, width, classes, seed + 7)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (L, B, N, W) to (L, B, classes)."""
        x = self.pooled(x)
        x = x + self.down(F.gelu(self.up(self._normed(x))))
        return self.classes(x)

    def pooled(self, x: Tensor) -> Tensor:
        """Multi-head attention with the query, (L, B, N, W) to (L, B, W); a bias of the keys would change nothing."""
        layers, batch, tokens, width = x.shape
        query = self.query.unflatten(1, (self.heads, -1)) * (width // self.heads) ** -0.5  # L, H, D
        seen = torch.einsum("lhd,lhdw->lhw", query, self.key.unflatten(1, (self.heads, -1)))  # L, H, W
        scores = torch.bmm(x.flatten(1, 2), seen.mT).unflatten(1, (batch, tokens))  # L, B, N, H
        mean = torch.matmul(scores.softmax(dim=2).mT, x)  # L, B, H, W
        values = torch.einsum("lbhw,lhdw->lbhd", mean, self.value.unflatten(1, (self.heads, -1))).flatten(2)
        return torch.baddbmm(self.out_bias[:, None], values + self.value_bias[:, None], self.out.mT)

    def _normed(self, x: Tensor) -> Tensor:
        x = F.layer_norm(x, x.shape[-1:])
        return x * self.norm_weight[:, None] + self.norm_bias[:, None]


def _alike(layers: int, shape: tuple[int, ...], spread: float, seed: int) -> Tensor:
    """One draw for all layers, (L, *shape)."""
    dice = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=dice) * spread).expand(layers, *shape).clone()


@dataclass(frozen=True)
class Standard:
    """Mean and standard deviation of each channel of each layer, (L, 1, W)."""

    mean: Tensor
    std: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """(L, ..., W) standardised."""
        shape = (len(x), *(1,) * (x.ndim - 2), x.shape[-1])
        return (x - self.mean.view(shape)) / self.std.view(shape)


def standard(*batches: Tensor) -> Standard:
    """Statistics over all of some tokens (L, ..., W)."""
    return standard_of(iter(batches))


def standard_of(batches: Iterable[Tensor]) -> Standard:
    """As `standard`, of batches that are not held together."""
    count, total, squares = 0, torch.tensor(0.0), torch.tensor(0.0)
    device = torch.device("cpu")
    for tokens in batches:
        x, device = tokens.flatten(1, -2).double(), tokens.device  # L, n, W
        count, total, squares = count + x.shape[1], total + x.sum(1).cpu(), squares + x.square().sum(1).cpu()
    mean = total / count
    variance = (squares / count - mean.square()).clamp_min(0)
    std = (variance + EPS * variance.mean(dim=1, keepdim=True) + 1e-12).sqrt()
    return Standard(mean[:, None].float().to(device), std[:, None].float().to(device))


def fit(
    probe: nn.Module,
    loss: Callable[[list[int]], Tensor],
    pictures: list[int],
    config: ProbeConfig,
    report: Callable[[int, int], None] = lambda done, of: None,
) -> None:
    """Trains all layers of a probe, in place.

    Args:
        probe: parameters (L, ...).
        loss: of some pictures, one for each layer (L,).
        pictures: of the training set; each epoch has them in another order.
        report: steps that are done, of how many.

    Raises:
        TrainingError: a loss that is no number.
    """
    steps = config.steps(len(pictures))
    optimizer = torch.optim.AdamW(probe.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    order: list[int] = []
    dice = torch.Generator().manual_seed(config.seed)
    for step in range(steps):
        if not order:
            order = [pictures[k] for k in torch.randperm(len(pictures), generator=dice).tolist()]
        chosen, order = order[: config.batch_size], order[config.batch_size :]
        for group in optimizer.param_groups:
            group["lr"] = config.rate(step, steps)
        optimizer.zero_grad(set_to_none=True)
        found = loss(chosen)  # L
        if not bool(found.detach().isfinite().all()):
            raise TrainingError(f"the loss of a probe is no number at step {step}; take a lower learning rate")
        found.sum().backward()
        optimizer.step()
        report(step + 1, steps)


def logistic(
    x: Tensor, labels: Tensor, classes: int, report: Callable[[int, int], None] = lambda done, of: None
) -> Tensor:
    """Multinomial logistic regression of all layers at once, with a penalty of half the squared weights.

    Accelerated gradient steps over all pictures, each layer with a step of its own size and its own restarts. Of few
    pictures in many channels, AdamW finds a much worse map: it moves the weights of noise as fast as those that matter.

    Args:
        x: features float (L, N, W), standardised.
        labels: integer (N,).

    Returns:
        Weights (L, W + 1, classes); the last row is added to each picture's outputs and not penalised.
    """
    layers, count, width = x.shape
    x = with_one(x)
    target = F.one_hot(labels, classes).to(x)  # N, K
    penalty = x.new_full((width + 1, 1), 1 / count)
    penalty[-1] = 0
    step = 1 / (0.5 * _largest_eigenvalue(x) + 1 / count)  # L; the loss bends at most so much
    w = x.new_zeros(layers, width + 1, classes)
    ahead, momentum = w, x.new_ones(layers, 1, 1)
    for iteration in range(ITERATIONS):
        errors = (x @ ahead).softmax(dim=2) - target  # L, N, K
        moved = ahead - step[:, None, None] * (x.mT @ errors / count + penalty * ahead)
        uphill = ((ahead - moved) * (moved - w)).sum(dim=(1, 2), keepdim=True) > 0
        momentum = torch.where(uphill, 1.0, momentum)
        following = (1 + (1 + 4 * momentum.square()).sqrt()) / 2
        ahead = moved + (momentum - 1) / following * (moved - w)
        w, momentum = moved, following
        report(iteration + 1, ITERATIONS)
    return w


def with_one(x: Tensor) -> Tensor:
    """(L, N, W) to (L, N, W + 1), the last channel 1."""
    return torch.cat((x, x.new_ones(*x.shape[:2], 1)), dim=2)


def _largest_eigenvalue(x: Tensor) -> Tensor:
    """Of x'x / N for each layer, (L,), a little too large; by power iteration."""
    v = torch.ones(len(x), x.shape[2], 1, device=x.device)
    size = v.new_ones(len(x), 1, 1)
    for _ in range(30):
        v = x.mT @ (x @ v) / x.shape[1]
        size = v.norm(dim=1, keepdim=True)
        v = v / size.clamp_min(1e-20)
    return 1.1 * size[:, 0, 0]


def neighbours(
    queries: Tensor, known: Tensor, labels: Tensor, classes: int, k: int = NEIGHBOURS, itself: bool = False
) -> Tensor:
    """The class that the k nearest by cosine vote for, weighted by exp(cosine / 0.07).

    Args:
        queries: features float (L, Q, W).
        known: features float (L, N, W).
        labels: integer (N,), classes of `known`.
        k: neighbours; all of them where there are fewer.
        itself: `queries` are `known`, and none counts as its own neighbour.

    Returns:
        int64 (L, Q).

    Source: DINO's evaluation by nearest neighbours; the paper's k is not published.
    """
    keys = F.normalize(known, dim=-1)
    found = []
    for first in range(0, queries.shape[1], 256):
        part = F.normalize(queries[:, first : first + 256], dim=-1)
        cosines = torch.bmm(part, keys.mT)  # L, q, N
        if itself:
            rows = torch.arange(part.shape[1], device=part.device)
            cosines[:, rows, rows + first] = -torch.inf
        best = cosines.topk(min(k, len(labels) - int(itself)), dim=2)
        votes = best.values.new_zeros(*part.shape[:2], classes)
        weights = ((best.values - best.values[:, :, :1]) / TEMPERATURE).exp()  # a common factor decides nothing
        votes.scatter_add_(2, labels[best.indices], weights)
        found.append(votes.argmax(dim=2))
    return torch.cat(found, dim=1)
