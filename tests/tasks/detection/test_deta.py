"""DETA as a whole: layers against a live peer, stages, suppression, views, bad input, names of the published files."""

from typing import Any

import pytest
import torch
from torch import Tensor

from midsight.errors import CheckpointError, ConfigError, InputError
from midsight.tasks.detection import DETA
from midsight.tasks.detection.deformable import DecoderLayer, EncoderLayer
from midsight.tasks.detection.deta import _view
from midsight.tasks.detection.preprocess import shorter_side_size
from tests import peers
from tests.tasks.detection import small

SHAPES = [(6, 5), (3, 3), (2, 1)]
RENAMES = (
    ("self_attn_layer_norm.", "norm1."), ("final_layer_norm.", "norm2."), ("mlp.fc1.", "linear1."),
    ("mlp.fc2.", "linear2."),
)  # fmt: skip


@pytest.fixture(scope="module")
def model() -> DETA:
    return small.deta()


def peer_inputs(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens of three maps, their positions, and padding."""
    generator = torch.Generator().manual_seed(seed)
    tokens = sum(rows * columns for rows, columns in SHAPES)
    padding = torch.rand(2, tokens, generator=generator) < 0.2
    return torch.randn(2, tokens, 32, generator=generator), torch.randn(2, tokens, 32, generator=generator), padding


def peer_layer(kind: str) -> Any:
    from transformers import DeformableDetrConfig
    from transformers.models.deformable_detr import modeling_deformable_detr as theirs

    config = DeformableDetrConfig(
        d_model=32, encoder_attention_heads=4, decoder_attention_heads=4, num_feature_levels=3, encoder_n_points=2,
        decoder_n_points=2, encoder_ffn_dim=24, decoder_ffn_dim=24, dropout=0.0, activation_dropout=0.0,
    )  # fmt: skip
    config._attn_implementation = "eager"
    return peers.randomize(getattr(theirs, kind)(config).eval())


def renamed(state: dict[str, Tensor], table: tuple[tuple[str, str], ...]) -> dict[str, Tensor]:
    out = {}
    for name, value in state.items():
        for old, new in table:
            name = name.replace(old, new)
        out[name] = value
    return out


@torch.no_grad()
def test_the_encoder_layer_agrees_with_transformers() -> None:
    theirs, ours = peer_layer("DeformableDetrEncoderLayer"), EncoderLayer(32, 24, 3, 4, 2)
    ours.load_state_dict(renamed(theirs.state_dict(), RENAMES))
    x, position, padding = peer_inputs()
    references = torch.rand(2, x.shape[1], 3, 2, generator=torch.Generator().manual_seed(5))
    shapes = torch.tensor(SHAPES)
    expected = theirs(
        x, ~padding, spatial_position_embeddings=position, reference_points=references, spatial_shapes=shapes,
        spatial_shapes_list=SHAPES, level_start_index=torch.tensor([0, 30, 39]),
    )  # fmt: skip
    expected = expected[0] if isinstance(expected, tuple) else expected
    assert expected.std() > 0.1
    torch.testing.assert_close(ours(x, position, references, SHAPES, padding), expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_decoder_layer_agrees_with_transformers() -> None:
    theirs, ours = peer_layer("DeformableDetrDecoderLayer"), DecoderLayer(32, 24, 3, 4, 2)
    state = theirs.state_dict()
    for kind in ("weight", "bias"):
        parts = [state.pop(f"self_attn.{part}_proj.{kind}") for part in "qkv"]
        state[f"self_attn.in_proj_{kind}"] = torch.cat(parts)
        state = {k.replace("self_attn.o_proj.", "self_attn.out_proj."): v for k, v in state.items()}
    crossed = (
        ("encoder_attn_layer_norm.", "norm1."),
        ("self_attn_layer_norm.", "norm2."),
        ("final_layer_norm.", "norm3."),
    )
    ours.load_state_dict(renamed(state, (*crossed, ("encoder_attn.", "cross_attn."), *RENAMES[2:])))
    memory, _, padding = peer_inputs()
    generator = torch.Generator().manual_seed(6)
    queries, position = torch.randn(2, 7, 32, generator=generator), torch.randn(2, 7, 32, generator=generator)
    references = torch.rand(2, 7, 3, 4, generator=generator)
    expected = theirs(
        queries, object_queries_position_embeddings=position, reference_points=references,
        spatial_shapes=torch.tensor(SHAPES), spatial_shapes_list=SHAPES, level_start_index=torch.tensor([0, 30, 39]),
        encoder_hidden_states=memory, encoder_attention_mask=~padding,
    )  # fmt: skip
    expected = expected[0] if isinstance(expected, tuple) else expected
    assert expected.std() > 0.1
    found = ours(queries, position, references, memory, SHAPES, padding)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((128, 128), (128, 128)),
        ((90, 128), (90, 128)),
        ((200, 120), (128, 77)),
        ((60, 333), (23, 127)),
        ((1, 900), (1, 900)),
    ],
)
def test_the_longer_side_ends_near_the_limit(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert shorter_side_size(size, 128) == expected


def test_raw_outputs(model: DETA) -> None:
    found = model.raw_outputs(small.PICTURES)
    cells = 20**2 + 10**2 + 5**2 + 3**2 + 2**2
    assert found["pred_logits"].shape == (3, 40, 5)
    assert found["pred_boxes"].shape == found["init_reference"].shape == (3, 40, 4)
    assert found["enc_outputs"]["pred_logits"].shape == (3, cells, 5)
    assert found["enc_outputs"]["anchors"].shape == found["enc_outputs"]["pred_boxes"].shape == (3, cells, 4)
    dense = found["enc_outputs"]["pred_boxes"]
    for image in range(3):
        distance = (found["init_reference"][image][:, None] - dense[image][None]).abs().amax(-1)
        assert distance.amin(1).max() < 1e-6  # every query starts from a box of the first stage


def test_detections(model: DETA) -> None:
    for found in model(small.PICTURES):
        assert found["boxes"].shape == (15, 4)
        assert found["labels"].dtype is torch.int64
        assert (found["scores"].diff() <= 0).all()
        same = found["labels"][:, None] == found["labels"]
        assert int(same.sum()) > 15  # classes repeat, and those boxes lie apart
    raw = model.raw_outputs(small.PICTURES)
    best = raw["pred_logits"][1].max()
    first = model(small.PICTURES)[1]
    assert float(first["scores"][0]) == pytest.approx(float(best.sigmoid()))
    query = int(raw["pred_logits"][1].max(dim=1).values.argmax())
    x, y, w, h = raw["pred_boxes"][1, query].tolist()
    expected = [(x - w / 2) * 120, (y - h / 2) * 200, (x + w / 2) * 120, (y + h / 2) * 200]
    assert first["boxes"][0].tolist() == pytest.approx(expected, abs=1e-2)


def test_soft_nms_returns_more_and_lower(model: DETA) -> None:
    soft = small.deta(soft_nms=True)(small.PICTURES[:1])[0]
    hard = model(small.PICTURES[:1])[0]
    assert len(soft["boxes"]) > len(hard["boxes"])
    assert soft["scores"].min() > 0.001
    assert float(soft["scores"][0]) == float(hard["scores"][0])


def test_a_batch_is_as_good_as_each_picture_alone(model: DETA) -> None:
    together = model(small.PICTURES)
    for picture, expected in zip(small.PICTURES, together, strict=True):
        (alone,) = model([picture])
        torch.testing.assert_close(alone["scores"], expected["scores"], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(alone["boxes"], expected["boxes"], rtol=1e-3, atol=1e-2)


def test_weights_in_half_precision(model: DETA) -> None:
    found, expected = small.deta().bfloat16()(small.PICTURES), model(small.PICTURES)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours["boxes"].dtype is ours["scores"].dtype is torch.float32
        torch.testing.assert_close(ours["scores"][:3], theirs["scores"][:3], rtol=0, atol=0.05)


def test_views() -> None:
    model = small.deta()
    batch = model._batch(small.PICTURES[1:2])
    pixels, sizes = _view(batch, 96, mirrored=True)
    assert sizes == [(96, 57)]  # int(96 / 128 * 77)
    assert pixels.shape == batch.pixels.shape
    assert pixels[..., 57:].abs().max() == 0
    picture = batch.pixels[:, :, :128, :77]
    smaller = torch.nn.functional.interpolate(picture, size=(96, 57), mode="bilinear", antialias=True)
    torch.testing.assert_close(pixels[:, :, :96, :57], smaller.flip(-1))


def test_augmented_predictions_join_views_of_their_sizes(model: DETA, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model's answer is replaced: every view sees one object, whose mirror image comes back to the same place."""
    seen = []

    def answer(pixels: Tensor, sizes: list[tuple[int, int]]) -> Any:
        seen.append(sizes[0])
        mirrored = len(seen) % 2 == 0
        box = torch.tensor([0.7 if mirrored else 0.3, 0.5, 0.2, 0.4])
        side = torch.tensor([0.5, 0.5, 0.95, 0.95])  # larger than the second view may contribute
        boxes = torch.stack((box, side))[None]
        logits = torch.full((1, 2, 5), -20.0)
        logits[0, 0, 3], logits[0, 1, 1] = 2.0 - len(seen) * 0.1, 1.0
        return type("Answer", (), {"layers": [(logits, boxes)]})

    monkeypatch.setattr(model, "answer", answer)
    (found,) = model.predict_tta(small.PICTURES[2:])  # 64 x 64
    assert seen == [(128, 128)] * 2 + [(96, 96)] * 2
    third = found["boxes"][found["labels"] == 3]
    torch.testing.assert_close(third[0], torch.tensor([0.2, 0.3, 0.4, 0.7]) * 64)
    assert len(third) == 1  # the other three are the same box, which quad decay takes to zero
    assert int((found["labels"] == 1).sum()) == 1


def test_published_names_and_back(model: DETA) -> None:
    published = model.published_state_dict()
    assert published["backbone.0.body.positional_embedding"].shape == (1, 9, 32)
    assert published["backbone.0.body.fpn1.0.weight"].shape == (32, 16, 2, 2)
    assert "backbone.0.body.rope_win.freqs_cos" in published
    again = "transformer.decoder.bbox_embed.1.layers.0.weight"
    assert published[again] is published[again.removeprefix("transformer.decoder.")]
    assert not any("net." in name for name in published)
    other = small.deta(seed=1)
    other.load_published({"model": published, "epoch": 3})
    for ours, theirs in zip(model(small.PICTURES[:1]), other(small.PICTURES[:1]), strict=True):
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    with pytest.raises(CheckpointError, match="1 missing .transformer.decoder.bbox_embed.1"):
        other.load_published({k: v for k, v in published.items() if k != again})
    with pytest.raises(CheckpointError, match="are one parameter, but the file has two different tensors"):
        other.load_published(published | {again: published[again] + 1})


def test_bad_settings_and_input_are_told(model: DETA) -> None:
    for changes, message in (
        ({"hidden_dim": 128}, "hidden_dim must be 256"),
        ({"heads": 3}, "a multiple of heads"),
        ({"num_queries": 600}, "num_queries 600 are more than the maps' 538 cells"),
        ({"num_feature_levels": 2}, "at least 3"),
        ({"tta_sizes": (96, 64)}, "one range for the base and each"),
        ({"tta_sizes": (200,)}, "from 1 to image_size 160"),
        ({"soft_nms_method": "cubic"}, "quad, linear, gaussian or hard"),
    ):
        with pytest.raises(ConfigError, match=message):
            small.deta(**changes)
    with pytest.raises(InputError, match="an empty list"):
        model.predict_tta([])
