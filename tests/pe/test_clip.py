"""The pair: published methods, shapes, switches and errors."""

import pytest
import torch
import torch.nn.functional as F

from midsight import pe, transforms
from midsight.errors import ConfigError, ShapeError
from tests.pe import tiny


@torch.inference_mode()
def test_forward_is_both_towers_at_unit_length() -> None:
    pair = tiny.clip()
    images, ids = tiny.images(2), transforms.get_text_tokenizer(20)(["a dog", "two cats on a mat"])
    image_features, text_features, scale = pair(images, ids)
    torch.testing.assert_close(image_features, F.normalize(pair.visual(images), dim=-1))
    torch.testing.assert_close(text_features, F.normalize(pair.encode_text(ids), dim=-1))
    assert scale == pair.logit_scale.exp()


@torch.inference_mode()
def test_video_is_the_mean_of_its_frames_and_not_normalised_again() -> None:
    pair, video = tiny.clip(), tiny.images(6).view(2, 3, 3, 64, 64)
    frames = torch.stack([pair.encode_image(clip) for clip in video])
    torch.testing.assert_close(pair.encode_video(video), frames.mean(dim=1), rtol=1e-4, atol=1e-5)
    normalized = pair.encode_video(video, normalize=True)
    torch.testing.assert_close(normalized, F.normalize(frames, dim=-1).mean(dim=1), rtol=1e-4, atol=1e-5)
    assert (normalized.norm(dim=-1) < 0.9999).all()
    with pytest.raises(ShapeError, match=r"\(B, T, 3, H, W\)"):
        pair.encode_video(video[0])


@torch.inference_mode()
def test_what_follows_the_end_token_does_not_matter() -> None:
    pair = tiny.clip()
    ids = transforms.get_text_tokenizer(20)(["a red bicycle"])
    expected = pair.encode_text(ids)
    end = int(ids.argmax())
    changed = ids.clone()
    changed[0, end + 1 :] = 7
    torch.testing.assert_close(pair.encode_text(changed), expected)
    torch.testing.assert_close(pair.encode_text(ids[:, : end + 1]), expected)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (torch.zeros(1, 21, dtype=torch.int64), "21 tokens; the context length is 20"),
        (torch.zeros(20, dtype=torch.int64), "token ids"),
        (torch.zeros(1, 20), "integer dtype"),
    ],
)
def test_wrong_ids_are_refused(ids: torch.Tensor, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        tiny.clip().encode_text(ids)


def test_only_pairs_are_offered() -> None:
    assert pe.CLIP.available_configs() == [
        "PE-Core-T16-384",
        "PE-Core-S16-384",
        "PE-Core-B16-224",
        "PE-Core-L14-336",
        "PE-Core-G14-448",
    ]
    with pytest.raises(ConfigError, match="no text tower"):
        pe.CLIP.from_config("PE-Lang-L14-448")
    with pytest.raises(ConfigError, match="one space"):
        pe.CLIP(pe.PEConfig(**(tiny.VISION | {"output_dim": 8})), pe.PETextConfig(**tiny.TEXT))


def test_checkpointing_reaches_both_towers() -> None:
    pair, images = tiny.clip().train(), tiny.images(2)
    ids = transforms.get_text_tokenizer(20)(["a dog", "a cat"])
    losses = []
    for enable in (False, True):
        pair.set_grad_checkpointing(enable)
        pair.zero_grad()
        image, text, scale = pair(images, ids)
        loss = F.cross_entropy(scale * image @ text.T, torch.arange(2))
        loss.backward()
        losses.append((loss.item(), pair.transformer.resblocks[0].attn.in_proj_weight.grad.clone()))
    assert losses[0][0] == pytest.approx(losses[1][0])
    torch.testing.assert_close(losses[0][1], losses[1][1])


@torch.inference_mode()
def test_autocast_runs_and_stays_close() -> None:
    pair, images = tiny.clip(), tiny.images(2)
    expected = pair.encode_image(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = pair.encode_image(images)
    assert torch.cosine_similarity(found.float(), expected).min() > 0.99
