"""Packed tokens keep every cosine within the bound, whatever the features are like."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import midsight
from midsight.api import dense_encoder
from midsight.errors import ShapeError
from midsight.tasks.explore.pack import WORST_COSINE, pack_attention, pack_tokens
from midsight.tasks.look import InputSize, look_at
from tests.docs.sandbox import DEMO

GENERATOR = torch.Generator().manual_seed(0)


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=GENERATOR)


def circle() -> Tensor:
    angle = torch.linspace(0, 6.28, 997)
    return torch.stack([angle.cos(), angle.sin()], dim=1)


CASES = {
    "even noise": [noise(200, 64), noise(150, 64)],
    "a few directions": [noise(300, 5) @ noise(5, 200), noise(40, 5) @ noise(5, 200)],
    "one strong mean": [noise(300, 96) * 0.05 + torch.ones(96)],
    "a few giants": [noise(300, 96) * torch.cat([torch.full((4,), 100.0), torch.ones(92)])],
    "more channels than tokens": [noise(7, 512), noise(3, 512)],
    "two directions": [circle()],
    "one token": [noise(1, 8)],
    "zeros": [torch.zeros(4, 8), noise(3, 8)],
    "one and the same": [torch.ones(9, 8)],
}
COARSE = ("a few directions", "a few giants", "two directions")  # bytes would miss the bound


def worst(tokens: list[Tensor], packed: list[Tensor]) -> float:
    a, b = F.normalize(torch.cat(tokens).double(), dim=1), torch.cat(packed).double()
    return float((a @ a.T - b @ b.T).abs().max())


@pytest.mark.parametrize("name", CASES)
def test_cosines_are_kept(name: str) -> None:
    tokens = CASES[name]
    packed = pack_tokens(tokens)
    assert [len(codes) for codes in packed.codes] == [len(part) for part in tokens]
    assert worst(tokens, packed.unpacked()) <= WORST_COSINE == 0.01
    assert packed.codes[0].dtype == (np.uint16 if name in COARSE else np.uint8)


def test_few_directions_stay_few() -> None:
    assert len(pack_tokens(CASES["a few directions"]).low) == 10  # five of each picture
    assert len(pack_tokens(CASES["one strong mean"]).low) < 60


def test_features_of_photographs() -> None:
    encoder = dense_encoder(midsight.load("embedded-spatial", device="cpu"), [0, -1])
    looks = [look_at(DEMO / name, encoder, InputSize(long_side=448)) for name in ("cat.jpg", "coffee.jpg")]
    for maps in zip(*(encoder(look.images) for look in looks), strict=True):
        tokens = [one[0].flatten(1).T for one in maps]
        packed = pack_tokens(tokens)
        assert worst(tokens, packed.unpacked()) <= WORST_COSINE
        assert packed.codes[0].dtype == np.uint8
        assert len(packed.low) < tokens[0].shape[1] / 2


def test_attention_is_kept_to_a_part_of_its_largest() -> None:
    weights = (noise(30, 50) * 3).softmax(dim=1)
    codes, largest = pack_attention(weights)
    assert (codes.dtype, codes.shape, largest.shape) == (np.uint8, (30, 50), (30,))
    found = (codes / 255.0) ** 2 * largest[:, None]
    assert np.abs(found - weights.numpy()).max() <= 0.005 * float(weights.max())
    np.testing.assert_array_equal(codes.argmax(axis=1), weights.argmax(dim=1))


def test_tokens_of_another_kind() -> None:
    for tokens in ([], [noise(3, 4), noise(3, 5)], [noise(3)], [noise(0, 4)]):
        with pytest.raises(ShapeError, match="of one width"):
            pack_tokens(tokens)
