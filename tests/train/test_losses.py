"""The losses against plain formulas, and the gradients of a batch in pieces against those of one large batch."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from midsight.errors import ShapeError
from midsight.train import losses
from tests.train import small


def test_contrastive_is_the_mean_of_both_cross_entropies() -> None:
    images, texts = torch.randn(5, 7), torch.randn(5, 7)
    table = 12.0 * F.normalize(images, dim=1) @ F.normalize(texts, dim=1).T
    by_hand = torch.stack([-table.log_softmax(1).diag().mean(), -table.log_softmax(0).diag().mean()]).mean()
    torch.testing.assert_close(losses.contrastive(images, texts, torch.tensor(12.0)), by_hand)


def by_formula(images: Tensor, texts: Tensor, scale: float, captions: list[str]) -> Tensor:
    """Row by row in float64: the mean log-probability of all rows that say the same, both ways."""
    images, texts = F.normalize(images.double(), dim=1), F.normalize(texts.double(), dim=1)
    terms = []
    for queries, keys in ((images, texts), (texts, images)):
        for i, own in enumerate(captions):
            every = [math.exp(scale * float(queries[i] @ key)) for key in keys]
            positives = [every[j] for j, other in enumerate(captions) if other == own]
            terms.append(-sum(math.log(p / sum(every)) for p in positives) / len(positives))
    return torch.tensor(sum(terms) / len(terms), dtype=torch.float64)


def test_rows_of_equal_captions_are_positives_of_each_other() -> None:
    images, texts = torch.randn(6, 7), torch.randn(6, 7)
    captions = ["a cat", "a dog", "a cat", "a fish", "a cat", "a dog"]
    groups = torch.tensor(losses.group_ids(captions))
    found = losses.contrastive(images, texts, torch.tensor(9.0), groups)
    torch.testing.assert_close(found.double(), by_formula(images, texts, 9.0, captions), rtol=1e-6, atol=0)
    plain = losses.contrastive(images, texts, torch.tensor(9.0))
    assert abs(found - plain) > 0.01
    alone = torch.tensor(losses.group_ids([str(n) for n in range(6)]))
    torch.testing.assert_close(losses.contrastive(images, texts, torch.tensor(9.0), alone), plain)


def test_pictures_of_one_class_are_no_negatives() -> None:
    rows = torch.eye(2)[[0, 0, 1, 1]]
    groups = torch.tensor(losses.group_ids(["a", "a", "b", "b"]))
    value = losses.contrastive(rows, rows, torch.tensor(100.0), groups)
    assert value == pytest.approx(math.log(2))  # the entropy of even shares: it cannot be lower
    rows.requires_grad_()
    losses.contrastive(rows, rows.detach(), torch.tensor(100.0), groups).backward()
    assert rows.grad is not None
    assert rows.grad.norm() < 1e-6


def test_contrastive_of_perfect_pairs_falls_to_zero_with_the_scale() -> None:
    rows = torch.eye(4)
    assert losses.contrastive(rows, rows, torch.tensor(100.0)) < 1e-6
    assert losses.contrastive(rows, rows, torch.tensor(0.0)) == pytest.approx(math.log(4))


def test_pairs_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"\(3, 4\) and texts \(2, 4\)"):
        losses.contrastive(torch.ones(3, 4), torch.ones(2, 4), torch.tensor(1.0))


def test_the_scale_is_capped_and_can_come_down_from_the_cap() -> None:
    above = torch.tensor(math.log(250.0), requires_grad=True)
    assert losses.scale_of(above).item() == pytest.approx(100.0)
    losses.cap_logit_scale(above)
    assert above.exp().item() == pytest.approx(100.0)
    losses.scale_of(above).backward()
    assert above.grad == pytest.approx(100.0)
    below = torch.tensor(math.log(14.0))
    losses.cap_logit_scale(below)
    assert below.exp() == pytest.approx(14.0)


def test_distillation_is_the_divergence_both_ways() -> None:
    images, texts, teacher_images, teacher_texts = torch.randn(4, 6, 8).unbind()
    scale = torch.tensor(30.0)
    expected = []
    for swap in (False, True):
        ours, theirs = losses.logits(images, texts, scale)[swap], None
        theirs = losses.logits(teacher_images, teacher_texts, torch.tensor(200.0))[swap]
        p, q = theirs.softmax(1).double(), ours.softmax(1).double()
        expected.append((p * (p.clamp_min(1e-300).log() - q.log())).sum(1).mean())
    value = losses.distillation(images, texts, scale, teacher_images, teacher_texts)
    torch.testing.assert_close(value.double(), torch.stack(expected).mean(), rtol=1e-4, atol=1e-6)


def test_distillation_is_zero_at_the_teacher_and_moves_the_student_only() -> None:
    rows = torch.randn(4, 5, 8)
    images, texts, scale = rows[0].requires_grad_(), rows[1], torch.tensor(200.0)
    assert losses.distillation(images, texts, scale, rows[0].detach(), rows[1]).item() == pytest.approx(0.0, abs=1e-6)
    teacher = rows[2].clone().requires_grad_()
    student = rows[3].clone().requires_grad_()
    losses.distillation(student, texts, scale, teacher, rows[1]).backward()
    assert teacher.grad is None
    assert student.grad.norm() > 0


def test_regression_is_one_minus_the_cosine_to_the_target() -> None:
    images, targets = torch.randn(5, 7, requires_grad=True), torch.randn(5, 7)
    by_hand = 1 - sum(i @ t / (i.norm() * t.norm()) for i, t in zip(images, targets, strict=True)) / 5
    value = losses.regression(images, targets)
    torch.testing.assert_close(value, by_hand)
    value.backward()
    assert images.grad is not None
    assert images.grad.norm() > 0
    assert losses.regression(3 * targets, targets).item() == pytest.approx(0.0, abs=1e-6)


def test_regression_to_targets_of_another_width_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"\(5, 7\) and targets \(5, 8\)"):
        losses.regression(torch.ones(5, 7), torch.ones(5, 8))


def test_mask_regularisation_pulls_the_masked_view_only() -> None:
    masked, targets = torch.randn(2, 3, 4, requires_grad=True), torch.randn(2, 3, 4, requires_grad=True)
    expected = 1 - F.cosine_similarity(masked, targets, dim=-1)
    torch.testing.assert_close(losses.mask_regularisation(masked, targets), expected.mean())
    hidden = torch.tensor([[True, False, False], [False, True, True]])
    torch.testing.assert_close(losses.mask_regularisation(masked, targets, hidden), expected[hidden].mean())
    losses.mask_regularisation(masked, targets).backward()
    assert targets.grad is None
    assert masked.grad.norm() > 0
    assert losses.mask_regularisation(targets, targets).item() == pytest.approx(0.0, abs=1e-6)


def test_pieces_give_the_gradients_of_the_large_batch_with_groups() -> None:
    images, texts = small.batch(8)
    groups = torch.tensor(losses.group_ids(list("abacabba")))
    found = []
    for pieces in (1, 4):
        model = small.pair().double()
        parts = list(zip(images.double().chunk(pieces), texts.chunk(pieces), strict=True))
        losses.backward_in_pieces(
            lambda n, m=model, p=parts: (m.encode_image(p[n][0]), m.encode_text(p[n][1])),
            pieces,
            lambda i, t, m=model: losses.contrastive(i, t, losses.scale_of(m.logit_scale), groups),
        )
        found.append(small.gradients(model))
    for name, gradient in found[0].items():
        assert gradient.norm() > 0, name
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("pieces", [2, 4])
def test_pieces_give_the_gradients_of_the_large_batch(pieces: int) -> None:
    images, texts = small.batch(8)
    whole, cut = small.pair().double(), small.pair().double()

    def loss_of(model: torch.nn.Module) -> object:
        return lambda i, t: losses.contrastive(i, t, losses.scale_of(model.logit_scale))

    def encode_of(model: torch.nn.Module, count: int) -> object:
        parts = list(zip(images.double().chunk(count), texts.chunk(count), strict=True))
        return lambda n: (model.encode_image(parts[n][0]), model.encode_text(parts[n][1]))

    expected, *_ = losses.backward_in_pieces(encode_of(whole, 1), 1, loss_of(whole))
    found, *_ = losses.backward_in_pieces(encode_of(cut, pieces), pieces, loss_of(cut))
    assert expected == pytest.approx(found.item(), rel=1e-6)
    ours, theirs = small.gradients(cut), small.gradients(whole)
    assert ours.keys() == theirs.keys() == dict(whole.named_parameters()).keys()
    for name, gradient in theirs.items():
        assert gradient.norm() > 0, name
        torch.testing.assert_close(ours[name], gradient, rtol=1e-5, atol=1e-8, msg=lambda m, n=name: f"{n}: {m}")


def test_the_mean_of_small_batches_is_something_else() -> None:
    images, texts = small.batch(8)
    model = small.pair()

    def gradient(parts: int) -> Tensor:
        model.zero_grad()
        for i, t in zip(images.chunk(parts), texts.chunk(parts), strict=True):
            (losses.contrastive(model.encode_image(i), model.encode_text(t), torch.tensor(14.0)) / parts).backward()
        return model.visual.proj.grad.clone()

    large = gradient(1)
    assert (gradient(4) - large).norm() > 0.1 * large.norm()


def test_pieces_repeat_stochastic_depth_and_add_the_auxiliary_loss() -> None:
    model = small.pair(drop_path=0.5)
    images, texts = small.batch(6)
    seen: list[list[Tensor]] = [[], [], []]

    def encode(piece: int) -> tuple[Tensor, Tensor]:
        rows = slice(2 * piece, 2 * piece + 2)
        pair = model.encode_image(images[rows]), model.encode_text(texts[rows])
        seen[piece].append(pair[0].detach())
        return pair

    flags: list[bool] = []
    scale = torch.tensor(10.0)
    _, extra, (kept, _) = losses.backward_in_pieces(
        encode, 3, lambda i, t: losses.contrastive(i, t, scale), lambda n: torch.tensor(float(n + 1)), flags.append
    )
    for piece, passes in enumerate(seen):
        assert torch.equal(*passes)
        assert torch.equal(kept[2 * piece : 2 * piece + 2], passes[0])
    assert extra == 6.0
    assert flags == [False, False, True]


def test_semantic_loss_is_minus_the_mean_cosine() -> None:
    student, teacher = torch.randn(2, 5, 7), torch.randn(2, 5, 7)
    cosines = [
        float(s @ t / (s.norm() * t.norm())) for s, t in zip(student.flatten(0, 1), teacher.flatten(0, 1), strict=True)
    ]
    assert float(losses.semantic_loss(student, teacher)) == pytest.approx(-sum(cosines) / 10, rel=1e-5)
    with pytest.raises(ShapeError, match=r"must both be \(B, N, C\)"):
        losses.semantic_loss(student, teacher[..., :6])


@pytest.mark.parametrize("temperature", [20.0, 3.0, None])
def test_locality_loss_compares_all_pairs_of_an_image(temperature: float | None) -> None:
    student, masks = torch.randn(2, 4, 7, requires_grad=True), torch.randn(2, 4, 3, requires_grad=True)
    wanted = 0.0
    for tokens, logits in zip(student.detach().double(), masks.detach().double(), strict=True):
        for i in range(4):
            for j in range(4):
                ours = float(tokens[i] @ tokens[j] / (tokens[i].norm() * tokens[j].norm()))
                theirs = float(logits[i] @ logits[j] / (logits[i].norm() * logits[j].norm()))
                theirs = theirs if temperature is None else math.exp(temperature * (theirs - 1))
                wanted += (ours - theirs) ** 2 / 32
    loss = losses.locality_loss(student, masks, temperature)
    assert float(loss.detach()) == pytest.approx(wanted, rel=1e-5)
    loss.backward()
    assert student.grad is not None
    assert masks.grad is None
    with pytest.raises(ShapeError, match=r"must be \(B, N, C\) and \(B, N, M\)"):
        losses.locality_loss(student, masks[:, :3])
