"""What training minimises, and how its gradients stay those of the large batch.

Letters: B rows of this process, G rows of all processes, D embedding width, N tokens, W tower width.

Every loss here is a mean over the rows of this process. With gradients averaged over the processes the sum is the
loss of the whole batch, whatever number of processes and pieces it was computed in.
"""

import math
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from midsight.errors import ShapeError

MAX_LOGIT_SCALE = 100.0  # PE paper, tables 18 to 20
TEACHER_LOGIT_SCALE = 200.0  # PE paper, table 20: half the student's temperature
LOCALITY_TEMPERATURE = 20.0  # PE paper, section 5.2


class _Gather(torch.autograd.Function):
    """Rows of all processes, in the order of ranks. The gradient of each row is summed over the processes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.rows = len(x)
        out = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(out, x.contiguous())
        return torch.cat(out)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        grad = grads[0].contiguous().clone()
        dist.all_reduce(grad)
        start = dist.get_rank() * ctx.rows
        return grad[start : start + ctx.rows]


def gather(x: Tensor) -> Tensor:
    """(B, D) of this process to (G, D) of all, differentiable; every process must hold as many rows.

    The gradient is exact: a row is a negative of rows on other processes, and what they owe to it comes back.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return x
    return _Gather.apply(x)


def scale_of(logit_scale: Tensor, maximum: float = MAX_LOGIT_SCALE) -> Tensor:
    """exp of the learned `logit_scale`, never above `maximum`; the gradient passes the cap, so it can come down."""
    over = (logit_scale - math.log(maximum)).clamp(min=0).detach()
    return (logit_scale - over).exp()


@torch.no_grad()
def cap_logit_scale(logit_scale: Tensor, maximum: float = MAX_LOGIT_SCALE) -> None:
    """Brings the parameter itself back to the cap, in place; called after each step of the optimiser."""
    logit_scale.clamp_(max=math.log(maximum))


def contrastive(images: Tensor, texts: Tensor, scale: Tensor, groups: Tensor | None = None) -> Tensor:
    """InfoNCE in both directions, with the rows of all processes as candidates.

    Args:
        images, texts: float (B, D), of any length; pair i is row i of both.
        scale: scalar, the exponentiated logit scale.
        groups: int64 (B,), equal where rows say the same (`group_ids`): these are positives of each other, in equal
            shares, also where they are of other processes. None: every row is a group of its own.

    Returns:
        Mean of both directions over the rows of this process, float32 scalar.

    Raises:
        ShapeError: images and texts are not one row a pair.

    Source: PE paper, section 2.1 (CLIP's loss); with groups UniCL's (arXiv 2204.03610).
    """
    to_texts, to_images = logits(images, texts, scale)
    target = _own_columns(len(images), images.device) if groups is None else _shares(groups)
    return (F.cross_entropy(to_texts, target) + F.cross_entropy(to_images, target)) / 2


def logits(images: Tensor, texts: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Scaled cosines of this process's images to all texts and of its texts to all images, float32 (B, G) each."""
    if images.shape != texts.shape or images.ndim != 2:
        raise ShapeError(
            f"images {tuple(images.shape)} and texts {tuple(texts.shape)} must both be (B, D), row i of both a pair"
        )
    images, texts = F.normalize(images.float(), dim=-1), F.normalize(texts.float(), dim=-1)
    return scale * images @ gather(texts).T, scale * texts @ gather(images).T


def distillation(
    images: Tensor,
    texts: Tensor,
    scale: Tensor,
    teacher_images: Tensor,
    teacher_texts: Tensor,
    teacher_scale: float = TEACHER_LOGIT_SCALE,
) -> Tensor:
    """Kullback-Leibler divergence from the teacher's to the student's distributions over the batch, both directions.

    Args:
        images, texts: the student's, float (B, D).
        scale: the student's exponentiated logit scale, scalar, learned.
        teacher_images, teacher_texts: float (B, E); no gradient reaches them.
        teacher_scale: fixed; 200 is half the temperature of the student at its cap.

    Returns:
        Mean of both directions over the rows of this process, float32 scalar; 0 where the student agrees.

    Source: PE paper, sections 2.4 and C.3.
    """
    with torch.no_grad():
        wanted = logits(teacher_images, teacher_texts, torch.tensor(teacher_scale, device=images.device))
    pairs = zip(logits(images, texts, scale), wanted, strict=True)
    parts = [F.kl_div(s.log_softmax(1), t.log_softmax(1), reduction="batchmean", log_target=True) for s, t in pairs]
    return (parts[0] + parts[1]) / 2


def regression(images: Tensor, targets: Tensor) -> Tensor:
    """One minus the cosine of each row to its target, both float (B, D); the mean over rows, float32 scalar.

    Not published: it gives a student of the teacher's width the place itself, beside the ranks of a batch.

    Raises:
        ShapeError: other widths than the targets'.
    """
    if images.shape != targets.shape:
        raise ShapeError(f"images {tuple(images.shape)} and targets {tuple(targets.shape)} must both be (B, D)")
    return (1 - F.cosine_similarity(images.float(), targets.float(), dim=-1)).mean()


def mask_regularisation(masked: Tensor, targets: Tensor, hidden: Tensor | None = None) -> Tensor:
    """One minus the cosine of each token of the masked view to the same token of the unmasked view.

    The targets carry no gradient, and the contrastive loss never sees the masked view: the two losses meet in the
    weights only. Not published, and chosen here: the tokens are patch tokens behind the final norm, all of them count
    unless `hidden` is given, the mean over tokens is the loss, its weight is 1.

    Args:
        masked, targets: float (B, N, W).
        hidden: bool (B, N), True where the masked view saw no pixels; only those tokens count.

    Source: PE paper, section 2.1 (mask regularisation).
    """
    cosine = F.cosine_similarity(masked.float(), targets.detach().float(), dim=-1)  # B, N
    return (1 - cosine).mean() if hidden is None else (1 - cosine)[hidden].mean()


def semantic_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Minus the mean cosine of each token to the teacher's, both float (B, N, C), float32 scalar from -1 to 1.

    No gradient reaches the teacher.

    Raises:
        ShapeError: tokens of other numbers or widths.

    Source: PE paper, section 5.2 (alignment with the model's own middle layer).
    """
    if student.shape != teacher.shape or student.ndim != 3:
        raise ShapeError(f"student {tuple(student.shape)} and teacher {tuple(teacher.shape)} must both be (B, N, C)")
    return -F.cosine_similarity(student.float(), teacher.detach().float(), dim=-1).mean()


def locality_loss(student: Tensor, teacher_logits: Tensor, temperature: float | None = LOCALITY_TEMPERATURE) -> Tensor:
    """Squared difference of two matrices of cosines, the mean over all pairs of tokens of each image.

    Args:
        student: tokens, float (B, N, C).
        teacher_logits: mask logits of M masks at each token's place, float (B, N, M); no gradient reaches them.
        temperature: t of f(x) = exp(t (x - 1)), which is put on the teacher's cosines; None compares them as they are.

    Returns:
        float32 scalar.

    Raises:
        ShapeError: not the same tokens on both sides.

    Source: PE paper, section 5.2 (spatial alignment).
    """
    if student.ndim != 3 or teacher_logits.ndim != 3 or student.shape[:2] != teacher_logits.shape[:2]:
        raise ShapeError(
            f"student {tuple(student.shape)} and teacher {tuple(teacher_logits.shape)} must be (B, N, C) and (B, N, M)"
        )
    with torch.no_grad():
        wanted = _cosines(teacher_logits)  # B, N, N
        wanted = wanted if temperature is None else (temperature * (wanted - 1)).exp()
    return (_cosines(student) - wanted).square().mean()


def _cosines(tokens: Tensor) -> Tensor:
    """(B, N, C) to (B, N, N)."""
    unit = F.normalize(tokens.float(), dim=-1)
    return unit @ unit.transpose(1, 2)


def backward_in_pieces(
    encode: Callable[[int], tuple[Tensor, Tensor]],
    pieces: int,
    loss: Callable[[Tensor, Tensor], Tensor],
    auxiliary: Callable[[int], Tensor | None] = lambda _: None,
    on_last: Callable[[bool], None] = lambda _: None,
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Gradients of one large batch, computed a piece at a time: exact, not the mean of small batches.

    The first pass embeds all pieces without a graph; the loss over all of them gives the gradient of every embedding;
    the second pass embeds each piece again and carries that gradient on. The random state of each piece is repeated, so
    stochastic depth drops the same branches in both passes. One piece needs one pass.

    Args:
        encode: number of a piece -> its embeddings, images (b, D) and texts (b, D).
        pieces: how many.
        loss: embeddings of all pieces, (B, D) each -> scalar.
        auxiliary: called after the second `encode` of a piece; what it returns is added to the loss.
        on_last: called with False before the backward passes of all pieces but the last, and with True before that.

    Returns:
        The loss, the sum of the auxiliary losses (detached), and the embeddings (detached).
    """
    if pieces == 1:
        on_last(True)
        images, texts = encode(0)
        main, extra = loss(images, texts), auxiliary(0)
        (main if extra is None else main + extra).backward()
        return main.detach(), _value(extra, main), (images.detach(), texts.detach())
    states, kept = [], []
    with torch.no_grad():
        for piece in range(pieces):
            states.append(_random_state())
            kept.append(encode(piece))
    images = torch.cat([pair[0] for pair in kept]).requires_grad_()
    texts = torch.cat([pair[1] for pair in kept]).requires_grad_()
    main = loss(images, texts)
    main.backward()
    grads = _split(images.grad, kept, 0), _split(texts.grad, kept, 1)
    total = torch.zeros_like(main)
    for piece in range(pieces):
        on_last(piece == pieces - 1)
        _restore(states[piece])
        again = encode(piece)
        extra = auxiliary(piece)
        carried = [(e * grad[piece]).sum() for e, grad in zip(again, grads, strict=True) if e.requires_grad]
        parts = carried if extra is None else [*carried, extra]
        torch.stack([p.float() for p in parts]).sum().backward()
        total = total + _value(extra, main)
    return main.detach(), total.detach(), (images.detach(), texts.detach())


def _split(grad: Tensor | None, kept: Sequence[tuple[Tensor, Tensor]], side: int) -> tuple[Tensor, ...]:
    sizes = [len(pair[side]) for pair in kept]
    if grad is None:  # a loss that does not use this side
        return tuple(torch.zeros_like(pair[side]) for pair in kept)
    return grad.split(sizes)


def _value(extra: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if extra is None else extra.detach().to(like.dtype)


def _random_state() -> list[Tensor]:
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state()] if torch.cuda.is_available() else states


def _restore(states: list[Tensor]) -> None:
    torch.set_rng_state(states[0])
    if len(states) > 1:
        torch.cuda.set_rng_state(states[1])


def group_ids(texts: Sequence[str]) -> list[int]:
    """A number for each text, the same in every process for the same text; 63 bits of a hash."""
    return [
        int.from_bytes(blake2b(text.encode(errors="surrogateescape"), digest_size=8).digest(), "big") >> 1
        for text in texts
    ]


def _shares(groups: Tensor) -> Tensor:
    """Each row's share in the rows of all processes, float32 (B, G): even over its group, sums of 1."""
    everywhere = [groups]
    if dist.is_available() and dist.is_initialized():
        everywhere = [torch.empty_like(groups) for _ in range(dist.get_world_size())]
        dist.all_gather(everywhere, groups)
    same = (groups[:, None] == torch.cat(everywhere)[None]).float()
    return same / same.sum(dim=1, keepdim=True)


def _own_columns(rows: int, device: torch.device) -> Tensor:
    rank = dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
    return torch.arange(rank * rows, (rank + 1) * rows, device=device)
