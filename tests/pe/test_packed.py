"""Packed towers against the plain ones, in both precisions, with and without oneDNN's operators."""

from typing import Any

import pytest
import torch

from midsight import pe
from midsight.pe import linear, packed, packed_trunk
from tests.pe import tiny

VARIANTS = {
    "class_token": dict(use_cls_token=True),
    "no_class_token": dict(use_cls_token=False),
    "layer_scale": dict(ls_init_value=0.1, output_dim=None, pool_type="none", use_ln_post=False),
    "head_dim_24": dict(width=96, heads=4),
    "no_rope": dict(use_rope2d=False),
    "no_positions": dict(use_abs_posemb=False, use_ln_pre=False),
}


def relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    assert expected.std() > 0.05, "outputs near zero would agree with anything"
    return ((actual - expected).abs().max() / expected.abs().max()).item()


@pytest.fixture(params=["onednn", "fallback"])
def operators(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With torch's private operators, and as on a machine that has none."""
    if request.param == "fallback":
        monkeypatch.setattr(linear, "available", lambda: False)
        monkeypatch.setattr(linear, "bf16_available", lambda: False)
    else:
        assert linear.available(), "this machine has no oneDNN operators: only the fallback is tested here"
    return str(request.param)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("size", [(64, 64), (48, 80)])
@torch.inference_mode()
def test_float32_is_exact(variant: str, size: tuple[int, int], operators: str) -> None:
    tower, images = tiny.vision(**VARIANTS[variant]), tiny.images(3, *size)
    expected, layer = tower(images), tower.forward_features(images, layer_idx=1)
    tower.pack()
    assert relative_error(tower(images), expected) < 5e-6
    assert relative_error(tower.forward_features(images, layer_idx=1), layer) < 5e-6


@torch.inference_mode()
def test_bfloat16_keeps_a_float32_residual(operators: str) -> None:
    tower, images = tiny.vision(use_cls_token=True), tiny.images(3)
    expected = tower(images)
    found = tower.pack(torch.bfloat16)(images)
    assert found.dtype == torch.float32
    assert torch.cosine_similarity(found, expected).min() > 0.999
    assert relative_error(found, expected) > 1e-6, "bfloat16 did not take part"


@torch.inference_mode()
def test_attention_in_parts_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    tower, images = tiny.vision().pack(torch.bfloat16), tiny.images(5)
    whole = tower(images)
    monkeypatch.setattr("midsight.pe.attention.MAX_SCORES", 1)
    torch.testing.assert_close(tower(images), whole, rtol=1e-2, atol=1e-2)


@torch.inference_mode()
def test_truncate_reaches_the_packed_blocks() -> None:
    tower, images = tiny.vision(), tiny.images(1)
    expected = tower.forward_features(images, layer_idx=1)
    tower.pack().truncate(1)
    assert relative_error(tower.forward_features(images), expected) < 5e-6


def test_whatever_changes_the_weights_drops_the_packed_ones() -> None:
    images = tiny.images(1)
    tower, other = tiny.vision(seed=0), tiny.vision(seed=1)
    with torch.inference_mode():
        expected = other(images)
    tower.pack().load_state_dict(other.state_dict())
    with torch.inference_mode():
        assert relative_error(tower(images), expected) < 5e-6
    for change in (lambda t: t.train(), lambda t: t.double(), lambda t: t.to("cpu")):
        tower.pack()
        change(tower)
        assert tower._packed is None
        tower.float().eval()


def test_training_goes_through_the_plain_tower() -> None:
    tower = tiny.vision().pack()
    tower(tiny.images(1)).sum().backward()
    assert tower.conv1.weight.grad is not None


TEXTS = [5, 3, 3, 20, 12, 2, 5, 7]  # lengths with start and end


def token_rows(lengths: list[int], context: int = 20) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    rows = torch.zeros(len(lengths), context, dtype=torch.int64)
    for row, length in zip(rows, lengths, strict=True):
        row[:length] = torch.randint(1, 49_000, (length,), generator=generator)
        row[0], row[length - 1] = 49406, 49407
    return rows


@pytest.mark.parametrize("rows_at_once", [4, 16, 1024])
@torch.inference_mode()
def test_texts_without_padding_are_exact(rows_at_once: int, operators: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "TEXT_ROWS", rows_at_once)
    pair, ids = tiny.clip(), token_rows(TEXTS)
    expected = pair.encode_text(ids)
    assert relative_error(pair.pack().encode_text(ids), expected) < 5e-6
    assert torch.cosine_similarity(pair.pack(torch.bfloat16).encode_text(ids), expected).min() > 0.999


def first_tokens_computed(pair: pe.CLIP, ids: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> int:
    """Rows that go through the first block for these texts."""
    rows, ragged = [], packed.PackedBlock.ragged

    def counted(self: packed.PackedBlock, x: torch.Tensor, *others: Any) -> torch.Tensor:
        rows.append(sum(count * length for count, length in others[0]))  # without those that fill up
        return ragged(self, x, *others)

    with monkeypatch.context() as patch:
        patch.setattr(packed.PackedBlock, "ragged", counted)
        pair.encode_text(ids)
    return rows[0] - sum(TEXTS) + len(TEXTS)


@torch.inference_mode()
def test_a_first_token_that_all_share_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pair, ids = tiny.clip(), token_rows(TEXTS)
    pair.pack()
    assert first_tokens_computed(pair, ids, monkeypatch) == 0
    ids[3, 0] = 17
    assert first_tokens_computed(pair, ids, monkeypatch) == len(TEXTS)


@pytest.mark.parametrize("length", [3, 5])
@torch.inference_mode()
def test_a_long_start_is_computed_once(length: int, operators: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "TEXT_ROWS", 40)
    pair, lengths = tiny.clip(), [6, 9, 20, 7, 7, 6, 12] * 3
    ids = token_rows(lengths)
    ids[:, :length] = ids[0, :length]
    expected = pair.encode_text(ids)
    pair.pack()
    rows, ragged = [], packed.PackedBlock.ragged

    def counted(self: packed.PackedBlock, x: torch.Tensor, *others: Any) -> torch.Tensor:
        rows.append(sum(count * length for count, length in others[0]))  # without those that fill up
        return ragged(self, x, *others)

    monkeypatch.setattr(packed.PackedBlock, "ragged", counted)
    monkeypatch.setattr(packed, "WORTH", 3)
    assert relative_error(pair.encode_text(ids), expected) < 5e-6
    blocks = pair.text_config.layers - 1
    assert sum(rows) == blocks * (sum(lengths) - length * len(lengths))
    assert torch.cosine_similarity(pair.pack(torch.bfloat16).encode_text(ids), expected).min() > 0.999
    monkeypatch.setattr(packed, "WORTH", 1000)
    rows.clear()
    assert relative_error(pair.pack().encode_text(ids), expected) < 5e-6
    assert sum(rows) == blocks * (sum(lengths) - len(lengths))


@torch.inference_mode()
def test_equal_texts(operators: str) -> None:
    pair, ids = tiny.clip(), token_rows([15]).expand(40, -1).contiguous()
    expected = pair.encode_text(ids)
    assert relative_error(pair.pack().encode_text(ids), expected) < 5e-6


@pytest.mark.parametrize("case", ["another one", "several", "nothing but one", "an end alone"])
@torch.inference_mode()
def test_first_tokens_of_any_kind_are_exact(case: str, operators: str) -> None:
    pair, ids = tiny.clip(), token_rows(TEXTS)
    both = torch.cat((ids, ids))
    if case == "another one":
        both[:, 0] = 3
    elif case == "several":
        both[2:9, 0] = 5
    elif case == "nothing but one":
        both[4, 1:] = 0
    else:
        both[4] = 0
        both[4, 0] = 49407
    expected = pair.encode_text(both)
    pair.pack().encode_text(ids)  # with the usual first token, whose parts are kept
    assert relative_error(pair.encode_text(both), expected) < 5e-6
    assert relative_error(pair.encode_text(ids), tiny.clip().encode_text(ids)) < 5e-6


@torch.inference_mode()
def test_one_block_and_no_text() -> None:
    tower = tiny.drawn(pe.TextTransformer(pe.PETextConfig(**(tiny.TEXT | {"layers": 1}))))
    ids = token_rows(TEXTS)
    expected = tower(ids)
    assert relative_error(tower.pack()(ids), expected) < 5e-6
    assert tower(ids[:0]).shape == (0, 24)


def test_rows_come_in_few_numbers() -> None:
    found = [packed.rounded(rows) for rows in range(1, packed.TEXT_ROWS + 1)]
    assert all(rows <= new <= max(rows, 1.0625 * rows) for rows, new in enumerate(found, 1))
    assert len(set(found)) < 125  # oneDNN keeps code for each of them, for each of five linear maps: of a thousand
    assert packed.rounded(1) == 1


def test_parts_hold_every_text_once() -> None:
    lengths = sorted([3, 900, 5, 1, 400, 400, 2000, 7])
    parts = packed.parts_of(lengths)
    assert [i for part in parts for i in range(len(lengths))[part]] == list(range(len(lengths)))
    assert all(sum(lengths[part]) <= packed.TEXT_ROWS or part.stop - part.start == 1 for part in parts)
    assert packed.parts_of([]) == []


@pytest.mark.parametrize("size", [(64, 64), (96, 70), (224, 160)])
@torch.inference_mode()
def test_a_packaged_trunk(size: tuple[int, int], trunk_operators: str) -> None:
    """The plain trunk against the packed one: SAME padding at odd sizes, residuals, pixels beyond whole patches."""
    tower = tiny.vision(patch_size=32, stem="efficientnet_lite2", image_size=64)
    for conv in (module for module in tower.stem.modules() if isinstance(module, torch.nn.Conv2d)):
        torch.nn.init.kaiming_normal_(conv.weight, mode="fan_in")  # larger ones blow rounding up from block to block
        torch.nn.init.normal_(conv.bias, std=0.1)
    images = tiny.images(2, *size)
    expected = tower(images)
    assert relative_error(tower.pack()(images), expected) < 5e-6
    assert torch.cosine_similarity(tower.pack(torch.bfloat16)(images), expected).min() > 0.999


@pytest.fixture(params=["onednn", "fallback"])
def trunk_operators(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With torch's private convolutions, and as on a machine that has none."""
    if request.param == "fallback":
        monkeypatch.setattr(packed_trunk, "available", lambda: False)
    else:
        assert packed_trunk.available(), "this machine has no oneDNN: only the fallback is tested here"
    return str(request.param)
