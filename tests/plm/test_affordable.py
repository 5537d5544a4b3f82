"""bfloat16, packed and quantised weights: how far answers move, what stays, what can be saved."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from midsight.errors import ConfigError
from midsight.pe.linear import bf16_available
from midsight.plm import PLM, lean
from midsight.plm.answer import AnswerConfig, Answerer
from midsight.plm.projection import PackedProjection
from midsight.plm.quantized import Int4Projection, Int8Projection
from tests.plm import tiny

CAT = Path(__file__).parents[2] / "midsight" / "assets" / "demo" / "cat.jpg"
GIVEN = torch.randn(1, 2, 3, 56, 56, generator=torch.Generator().manual_seed(4))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plm") / "model"
    tiny.saved(path, shape=tiny.Shape(tied=True))
    return path


def prompt(model: PLM) -> Tensor:
    return torch.tensor([[5, 6, 7, *[model.config.image_token_id] * 8, 40, 41, 42, 43]])


def distance(found: Tensor, expected: Tensor) -> float:
    assert expected.std() > 0.3
    return float((found.float() - expected).norm() / expected.norm())


@pytest.fixture(scope="module")
def exact(folder: Path) -> Tensor:
    with torch.inference_mode():
        model = PLM.from_pretrained(folder)
        return model(prompt(model), GIVEN)


@torch.inference_mode()
@pytest.mark.parametrize(
    ("load", "low", "high"),
    [
        (lambda folder: PLM.from_pretrained(folder, dtype=torch.bfloat16), 1e-3, 0.03),
        (lambda folder: PLM.from_pretrained(folder, dtype=torch.bfloat16).pack(), 1e-3, 0.03),
        (lambda folder: PLM.from_pretrained(folder, quantize="int8"), 5e-3, 0.06),
        (lambda folder: PLM.from_pretrained(folder, quantize="int4"), 0.02, 0.35),
    ],
    ids=["bfloat16", "packed", "int8", "int4"],
)
def test_answers_move_a_little(
    folder: Path, exact: Tensor, load: Callable[[Path], PLM], low: float, high: float
) -> None:
    """Through transformers' forward pass and through the lean one, for prompts and for single tokens."""
    model = load(folder)
    ids = prompt(model)
    assert model.dtype == torch.bfloat16
    assert low < distance(model(ids, GIVEN), exact) < high
    cache = lean.KVCache()
    embeds = model.embed(ids, GIVEN)
    found = [
        lean.step(model.language_model, part, cache) for part in (embeds[:, :-2], embeds[:, -2:-1], embeds[:, -1:])
    ]
    for logits, place in zip(found, (-3, -2, -1), strict=True):
        assert distance(logits, exact[:, place]) < 1.5 * high
    assert Answerer(model, AnswerConfig(max_new_tokens=4)).answer("What is this?", [CAT]).prompt_tokens > 50


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_only_the_layers_linear_maps_are_quantised(folder: Path, kind: str) -> None:
    model = PLM.from_pretrained(folder, quantize=kind)  # type: ignore[arg-type]
    layers = [type(module) for module in model.language_model.model.layers.modules() if hasattr(module, "scales")]
    # in 4 bits, maps of 32 outputs (keys and values) and of 176 inputs or outputs stay
    assert layers == ([Int8Projection] * 21 if kind == "int8" else [Int4Projection] * 6)
    assert type(model.language_model.lm_head) is nn.Linear
    assert model.language_model.lm_head.weight.dtype == torch.bfloat16
    assert not [module for module in model.vision_model.modules() if hasattr(module, "scales")]


@torch.inference_mode()
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("make", "error"), [(Int8Projection, 0.012), (Int4Projection, 0.09)])
@pytest.mark.parametrize("rows", [1, 8, 100])
def test_maps_for_few_and_many_rows(
    make: Callable[[nn.Linear], nn.Module], error: float, bias: bool, rows: int
) -> None:
    """The kernels and the laid-out weights compute the same map."""
    linear = nn.Linear(96, 128, bias=bias).bfloat16()
    x = torch.randn(2, rows, 96, generator=torch.Generator().manual_seed(2)).bfloat16()
    expected = linear.float()(x.float())
    found = make(linear.bfloat16())(x)
    assert found.shape == expected.shape
    assert 1e-4 < distance(found, expected) < error


@torch.inference_mode()
def test_four_bits_keep_what_four_bits_can_tell() -> None:
    """Weights of 16 even steps come back as they were, so a model stored in 4 bits loses nothing more."""
    linear = nn.Linear(64, 64, bias=False).bfloat16()
    steps = torch.randint(0, 16, (64, 64), generator=torch.Generator().manual_seed(0))
    steps[:, ::32], steps[:, 1::32] = 0, 15
    linear.weight.copy_((steps - 8) / 16)
    projection = Int4Projection(linear)
    assert projection.block in (32, 64)
    assert torch.equal(projection.dense(), linear.weight)


def test_quantised_weights_are_for_bfloat16_on_the_cpu(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="int8 or int4, got 'int2'"):
        PLM.from_pretrained(folder, quantize="int2")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="leave both out"):
        PLM.from_pretrained(folder, quantize="int8", dtype=torch.float32)
    with pytest.raises(ConfigError, match="leave both out"):
        PLM.from_pretrained(folder, quantize="int8", device="cuda")
    with pytest.raises(ConfigError, match="cannot be saved"):
        PLM.from_pretrained(folder, quantize="int8").save_pretrained(tmp_path / "out")


@pytest.mark.skipif(not bf16_available(), reason="no bfloat16 in oneDNN here")
def test_a_packed_model_is_saved_as_it_was(folder: Path, tmp_path: Path) -> None:
    plain = PLM.from_pretrained(folder, dtype=torch.bfloat16)
    packed = PLM.from_pretrained(folder, dtype=torch.bfloat16).pack()
    assert sum(isinstance(module, PackedProjection) for module in packed.language_model.modules()) == 21
    assert packed.language_model.lm_head.weight is packed.token_embedding.weight  # no second table
    packed.save_pretrained(tmp_path / "out")
    again = PLM.from_pretrained(tmp_path / "out")
    assert again.dtype == torch.bfloat16
    state = again.state_dict()
    for name, value in plain.state_dict().items():
        assert torch.equal(state[name], value)


def test_packing_changes_nothing_in_float32(folder: Path) -> None:
    model = PLM.from_pretrained(folder).pack()
    assert not [module for module in model.language_model.modules() if isinstance(module, PackedProjection)]


def test_a_bfloat16_model_can_be_trained(folder: Path) -> None:
    """The tower's norms, in float32 for inference, are as the rest again."""
    model = PLM.from_pretrained(folder, dtype=torch.bfloat16).train()
    logits = model(prompt(model), GIVEN.bfloat16())
    logits.float().logsumexp(-1).sum().backward()
    grads = [parameter.grad for parameter in model.parameters()]
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert all(grad is not None and grad.abs().sum() > 0 for grad in grads)


@torch.inference_mode()
def test_tiles_go_through_the_tower_in_parts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many go at once, the tokens are the same."""
    model = PLM.from_pretrained(folder)
    tiles = torch.randn(7, 3, 56, 56, generator=torch.Generator().manual_seed(1))
    whole = model.encode_media(tiles)
    monkeypatch.setattr("midsight.plm.model.ROWS_AT_ONCE", 40 // torch.get_num_threads())  # of 16 each: two at once
    torch.testing.assert_close(model.encode_media(tiles), whole, atol=1e-5, rtol=1e-5)
