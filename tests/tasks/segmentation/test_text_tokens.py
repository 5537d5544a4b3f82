"""Tokens in the space of texts: exact properties of towers whose weights are all drawn anew."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from midsight import pe
from midsight.errors import ConfigError, ShapeError
from midsight.tasks.segmentation.text_tokens import ATTENTIONS, last_tokens, likeness, pool_each
from tests.pe.tiny import images, vision


def tower(**overrides: object) -> pe.VisionTransformer:
    return vision(**({"use_cls_token": False} | overrides)).requires_grad_(False)


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("layers", [1, 4])
def test_one_token_alone_is_pooled_as_published(attention: str, layers: int) -> None:
    model, picture = tower(layers=layers), images(2, 16, 16)
    tokens = last_tokens(model, picture, attention)  # type: ignore[arg-type]
    assert tokens.shape == (2, 1, 64)
    expected = model(picture)
    assert expected.std() > 0.1  # otherwise the next line could not fail
    torch.testing.assert_close(pool_each(model, tokens)[:, 0], expected)


def test_weights_of_the_probe_give_the_published_embedding_everywhere() -> None:
    model, picture = tower(attn_pooler_heads=1), images(2, 32, 48)
    tokens = last_tokens(model, picture)
    pool, width = model.attn_pool, model.width
    normed = model.ln_post(tokens)
    q = F.linear(pool.probe, pool.attn.in_proj_weight[:width], pool.attn.in_proj_bias[:width])  # 1, 1, W
    k = F.linear(normed, pool.attn.in_proj_weight[width : 2 * width], pool.attn.in_proj_bias[width : 2 * width])
    weights = (q @ k.transpose(1, 2) / width**0.5).softmax(-1)  # B, 1, N
    found = pool_each(model, tokens, weights.expand(-1, 6, -1))
    torch.testing.assert_close(found, model(picture)[:, None].expand(-1, 6, -1))
    assert not torch.allclose(pool_each(model, tokens), found, atol=0.1)


def test_weights_that_keep_tokens_apart_change_nothing() -> None:
    model = tower()
    tokens = last_tokens(model, images(2, 32, 48))
    plain = pool_each(model, tokens)
    torch.testing.assert_close(pool_each(model, tokens, torch.eye(6).expand(2, 6, 6)), plain)
    sharp = likeness(tokens, 1e4)  # every token is like itself alone
    torch.testing.assert_close(pool_each(model, tokens, sharp), plain)
    mild = likeness(tokens, 1.0)
    torch.testing.assert_close(mild.sum(-1), torch.ones(2, 6))
    assert (mild.argmax(-1) == torch.arange(6)).all()
    torch.testing.assert_close(likeness(tokens + 3 * tokens[:, :1], 1.0), mild)  # what all share does not count


def reference(model: pe.VisionTransformer, x: Tensor, attention: str, size: tuple[int, int]) -> Tensor:
    """The last block written out, with full matrices of weights."""
    block = model.transformer.resblocks[-1]
    attn, normed = block.attn, block.ln_1(x)
    q, k, v = (
        part.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
        for part in F.linear(normed, attn.in_proj_weight, attn.in_proj_bias).chunk(3, dim=-1)
    )
    rope = model._rope_tables.get(*size, x.device)
    q, k = rope.rotate(q), rope.rotate(k)
    scores = [(y @ y.transpose(2, 3) / y.shape[-1] ** 0.5).softmax(-1) for y in (q, k)]
    weights = torch.eye(x.shape[1]) if attention == "values" else (scores[0] + scores[1]) / 2
    x = x + block.ls_1(attn.out_proj((weights @ v).transpose(1, 2).flatten(2)))
    return x + block.ls_2(block.mlp(block.ln_2(x)))


@pytest.mark.parametrize("attention", ["values", "self"])
@pytest.mark.parametrize("class_token", [False, True])
def test_other_attention_in_the_last_block(attention: str, class_token: bool) -> None:
    model, picture = tower(use_cls_token=class_token, ls_init_value=0.3), images(2, 32, 48)
    before = model.forward_features(picture, layer_idx=-2)
    found = last_tokens(model, picture, attention)  # type: ignore[arg-type]
    expected = reference(model, before, attention, (2, 3))[:, int(class_token) :]
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, last_tokens(model, picture), atol=0.05)


def test_what_cannot_be() -> None:
    model = tower()
    with pytest.raises(ConfigError, match="own, values, self, got 'other'"):
        last_tokens(model, images(1), "other")  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match=r"\(1, 2, 2\); expected \(1, 16, 16\)"):
        pool_each(model, last_tokens(model, images(1)), torch.eye(2)[None])
    with pytest.raises(ConfigError, match="take a PE-Core"):
        pool_each(tower(pool_type="none", output_dim=None), torch.zeros(1, 4, 64))
