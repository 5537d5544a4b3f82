"""Batched probes: each layer as it would come out alone, and each kind against an independent implementation."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor, nn

from midsight.errors import ConfigError, TrainingError
from midsight.evaluate import layer_dense as dense
from midsight.evaluate.metrics import Confusion, depth_errors
from midsight.evaluate.metrics.depth import DepthProtocol
from midsight.evaluate.probes import (
    TEMPERATURE,
    AttentionProbe,
    LinearProbe,
    ProbeConfig,
    fit,
    logistic,
    neighbours,
    standard,
    standard_of,
    with_one,
)
from midsight.tasks.depth import DepthHead, DepthRange, scale_invariant_log_loss
from midsight.tasks.heads import HeadConfig
from midsight.tasks.segmentation import cross_entropy

CONFIG = ProbeConfig(epochs=3, batch_size=4, lr=1e-2, least_steps=12)


@pytest.fixture
def tokens() -> Tensor:
    """Three layers of very different scales, ten pictures of six tokens, eight channels."""
    dice = torch.Generator().manual_seed(0)
    scales = torch.tensor([0.01, 1, 300]).view(3, 1, 1, 1)
    return (torch.randn(3, 10, 6, 8, generator=dice) + torch.randn(8, generator=dice)) * scales


LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 2, 0])


@pytest.mark.parametrize("kind", ["linear", "attention"])
def test_a_layer_among_others_comes_out_as_alone(kind: str, tokens: Tensor) -> None:
    def trained(x: Tensor) -> nn.Module:
        layers = len(x)
        probe = LinearProbe(layers, 8, 3) if kind == "linear" else AttentionProbe(layers, 8, 2, 3)
        norm = standard(x)

        def loss(pictures: list[int]) -> Tensor:
            chosen = norm(x[:, pictures])
            logits = probe(chosen.mean(dim=2) if kind == "linear" else chosen)  # L, B, 3
            return -logits.log_softmax(2).gather(2, LABELS[pictures].expand(layers, -1)[..., None]).mean(dim=(1, 2))

        fit(probe, loss, list(range(10)), CONFIG)
        return probe

    together = trained(tokens).state_dict()
    for layer in range(3):
        for name, alone in trained(tokens[layer : layer + 1]).state_dict().items():
            torch.testing.assert_close(together[name][layer], alone[0], rtol=1e-4, atol=1e-5)
    moved = together["weight" if kind == "linear" else "query"]
    assert not torch.allclose(moved[0], moved[1], atol=1e-3)  # otherwise one layer could stand for another


def test_a_linear_probe_is_that_of_torch_with_adamw(tokens: Tensor) -> None:
    """The same weights, batches and rates, by nn.Linear and a loop over layers."""
    x = standard(tokens)(tokens).mean(dim=2)  # L, N, W
    probe = LinearProbe(3, 8, 3, seed=5)
    singles = [nn.Linear(8, 3) for _ in range(3)]
    for layer, single in enumerate(singles):
        single.load_state_dict({"weight": probe.weight.data[layer].clone(), "bias": probe.bias.data[layer].clone()})
    seen: list[list[int]] = []

    def loss(pictures: list[int]) -> Tensor:
        seen.append(pictures)
        target = LABELS[pictures].repeat(3)
        return F.cross_entropy(probe(x[:, pictures]).flatten(0, 1), target, reduction="none").view(3, -1).mean(dim=1)

    fit(probe, loss, list(range(10)), CONFIG)
    assert sorted(sum(seen[:3], [])) == list(range(10))  # an epoch has each picture once
    for layer, single in enumerate(singles):
        optimizer = torch.optim.AdamW(single.parameters(), weight_decay=CONFIG.weight_decay)
        for step, pictures in enumerate(seen):
            optimizer.param_groups[0]["lr"] = CONFIG.rate(step, len(seen))
            optimizer.zero_grad()
            F.cross_entropy(single(x[layer, pictures]), LABELS[pictures]).backward()
            optimizer.step()
        torch.testing.assert_close(probe.weight[layer], single.weight, rtol=1e-4, atol=1e-5)


def test_the_attention_probe_is_multi_head_attention_with_one_query() -> None:
    probe = AttentionProbe(2, 12, 3, 4, seed=1)
    dice = torch.Generator().manual_seed(2)
    for parameter in probe.parameters():
        parameter.data = torch.randn(parameter.shape, generator=dice)
    x = torch.randn(2, 5, 7, 12, generator=dice)
    for layer in range(2):
        theirs = nn.MultiheadAttention(12, 3, batch_first=True)
        eye, key_bias = torch.eye(12), torch.randn(12, generator=dice)  # any bias of the keys: it changes nothing
        theirs.load_state_dict(
            {
                "in_proj_weight": torch.cat((eye, probe.key.data[layer], probe.value.data[layer])),
                "in_proj_bias": torch.cat((torch.zeros(12), key_bias, probe.value_bias.data[layer])),
                "out_proj.weight": probe.out.data[layer],
                "out_proj.bias": probe.out_bias.data[layer],
            }
        )
        query = probe.query.data[layer].expand(5, 1, 12)
        expected, _ = theirs(query, x[layer], x[layer])
        torch.testing.assert_close(probe.pooled(x)[layer], expected[:, 0], rtol=1e-4, atol=1e-4)
    assert probe(x).shape == (2, 5, 4)


def test_logistic_regression_is_that_of_scikit_learn(tokens: Tensor) -> None:
    x = standard(tokens)(tokens).mean(dim=2)
    x = standard(x)(x)
    told: list[int] = []
    weights = logistic(x, LABELS, 3, lambda done, of: told.append(done))
    assert told[-1] == len(told)
    for layer in range(3):
        theirs = LogisticRegression(C=1.0, max_iter=5000, tol=1e-8).fit(x[layer].numpy(), LABELS.numpy())
        expected = theirs.predict_proba(x[layer].numpy())
        ours = (with_one(x) @ weights)[layer].softmax(dim=1)
        np.testing.assert_allclose(ours.numpy(), expected, atol=2e-3)
        assert expected.max() > 0.8  # weights that have left zero


def test_neighbours_vote_as_in_scikit_learn() -> None:
    dice = torch.Generator().manual_seed(0)
    known, queries = torch.randn(2, 40, 5, generator=dice), torch.randn(2, 300, 5, generator=dice)
    labels = torch.randint(0, 4, (40,), generator=dice)
    found = neighbours(queries, known, labels, 4)
    for layer in range(2):
        theirs = KNeighborsClassifier(
            10, metric="cosine", algorithm="brute", weights=lambda far: np.exp((1 - far) / TEMPERATURE)
        ).fit(known[layer].numpy(), labels.numpy())
        np.testing.assert_array_equal(found[layer].numpy(), theirs.predict(queries[layer].numpy()))
    few = neighbours(queries, known[:, :3], labels[:3], 4)  # fewer than ten there are
    assert set(few.unique().tolist()) <= set(labels[:3].tolist())


def test_no_picture_is_its_own_neighbour() -> None:
    x = torch.tensor([[[1.0, 0], [1, 0.01], [0, 1], [0.01, 1]]])
    found = neighbours(x, x, torch.arange(4), 4, k=1, itself=True)
    assert found.tolist() == [[1, 0, 3, 2]]


def test_standard_features_have_one_scale_and_dead_channels_stay_dead(tokens: Tensor) -> None:
    tokens[:, :, :, 3] = 5.0
    norm = standard(tokens)
    x = norm(tokens)
    alive = [k for k in range(8) if k != 3]
    torch.testing.assert_close(x[..., alive].flatten(1, 2).std(dim=1), torch.ones(3, 7), rtol=0.02, atol=0.02)
    assert x[..., 3].abs().max() < 1e-3
    parts = standard_of(iter((tokens[:, :4], tokens[:, 4:])))
    torch.testing.assert_close(parts.mean, norm.mean)
    torch.testing.assert_close(parts.std, norm.std)


def test_rates_rise_and_fall() -> None:
    rates = [CONFIG.rate(step, 100) for step in range(100)]
    assert max(rates) == pytest.approx(CONFIG.lr)
    assert rates[0] < rates[4] > rates[50] > rates[99] > 0
    assert CONFIG.steps(10) == 12
    assert CONFIG.steps(100) == 75
    for wrong in ({"epochs": 0}, {"lr": 0.0}, {"warmup": 1.0}):
        with pytest.raises(ConfigError):
            ProbeConfig(**({"epochs": 1, "batch_size": 1, "lr": 1.0, "least_steps": 1} | wrong))


def test_a_loss_that_is_no_number_ends_training() -> None:
    probe = LinearProbe(2, 3, 2)
    with pytest.raises(TrainingError, match="no number at step 0"):
        fit(probe, lambda pictures: probe.weight.sum(dim=(1, 2)) * float("nan"), [0], CONFIG)


# Dense


def test_shares_of_classes_give_the_loss_over_pixels() -> None:
    dice = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 4, (2, 12, 12), generator=dice).to(torch.uint8)
    labels[labels == 3] = 255
    labels[0, :4, :4] = 255  # a token without a label
    logits = torch.randn(2, 2, 9, 3, generator=dice)  # layers, pictures, tokens, classes
    found = dense.shared_cross_entropy(logits, dense.class_shares(labels, 3, 3))
    for layer in range(2):
        maps = logits[layer].mT.unflatten(2, (3, 3))
        large = F.interpolate(maps, size=(12, 12), mode="nearest")
        assert float(found[layer]) == pytest.approx(float(cross_entropy(large, labels)), rel=1e-5)


def test_miou_is_that_of_the_confusion_matrix() -> None:
    dice = np.random.default_rng(0)
    truth = dice.integers(0, 4, (5, 8, 8)).astype(np.uint8)
    truth[truth == 3] = 255
    predicted = dice.integers(0, 3, (5, 8, 8))
    counts = dense.class_counts(torch.from_numpy(predicted), torch.from_numpy(truth), 4).numpy()
    confusion = Confusion(4)
    confusion.add(predicted, truth)
    assert dense.mean_iou(counts.mean(axis=0)) == pytest.approx(confusion.figures()["mIoU"])


def test_depth_is_read_out_as_by_the_depth_head() -> None:
    depths = DepthRange(bins=6, farthest=4.0)
    head = DepthHead(HeadConfig(5, 6, "linear"), depths)
    probe = LinearProbe(1, 5, 6)
    weights = torch.randn(6, 5)
    head.head.linear.weight.data = weights[:, :, None, None].clone()
    probe.weight.data = weights[None].clone()
    maps = torch.randn(2, 5, 3, 3)
    ours = dense.metres_of(probe(maps.flatten(2).mT.flatten(0, 1)[None]), head.centres)
    torch.testing.assert_close(ours.view(2, 3, 3), head([maps])[:, 0])
    assert ours.std() > 0.1


def test_depth_losses_and_errors_are_those_of_training() -> None:
    dice = torch.Generator().manual_seed(0)
    truth = torch.rand(2, 9, generator=dice) * 5
    truth[:, :3] = 0
    predicted = torch.rand(3, 2, 9, generator=dice) * 5 + 0.1
    found = dense.log_losses(predicted, truth)
    for layer in range(3):
        expected = scale_invariant_log_loss(predicted[layer].view(2, 3, 3), truth.view(2, 3, 3))
        torch.testing.assert_close(found[layer], expected)
    assert dense.log_losses(predicted, torch.zeros(2, 9)).tolist() == [0, 0, 0]
    errors = dense.root_mean_squares(predicted[0].view(2, 1, 3, 3), truth.view(2, 3, 3))
    for k in range(2):
        theirs = depth_errors(
            predicted[0, k].view(3, 3).numpy(), truth[k].view(3, 3).numpy(), DepthProtocol(nyu_crop=False)
        )
        assert float(errors[k]) == pytest.approx(theirs["RMSE"], rel=1e-5)


def test_a_cell_has_the_mean_of_its_known_depths() -> None:
    metres = torch.tensor([[[1.0, 3, 0, 0], [2, 0, 0, 0], [4, 4, 8, 0], [4, 4, 0, 0]]])
    assert dense.cell_depths(metres, 2).tolist() == [[2, 0, 4, 8]]
