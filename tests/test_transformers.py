"""midsight's models opened by transformers' own entry points, offline, with random weights."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForZeroShotImageClassification,
    AutoProcessor,
    AutoTokenizer,
    pipeline,
)

import midsight.transformers
from midsight import checkpoints, pe, transforms
from midsight.checkpoints import Pretrained
from midsight.configs import MODELS, PreprocessConfig
from midsight.errors import ConfigError, ShapeError
from tests.checkpoints import tiny

TEXT = replace(tiny.TEXT, vocab_size=49408, context_length=16)
PREPROCESS = PreprocessConfig(64, "center_crop", "bicubic", (0.48, 0.46, 0.41), (0.27, 0.26, 0.28))
TEXTS = ["a cat", "Two dogs, running!", "caf&eacute; &amp; CR&Egrave;ME", "", "!!", "日本語 🐕", "x " * 40]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.fixture(scope="module")
def saved() -> Pretrained:
    return Pretrained("mine", tiny.CORE, TEXT, PREPROCESS, tiny.weights(tiny.CORE, TEXT), {"seed": 3})


@pytest.fixture(scope="module")
def folder(saved: Pretrained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return midsight.transformers.save_transformers(tmp_path_factory.mktemp("hf") / "model", saved)


@pytest.fixture(scope="module")
def ours(saved: Pretrained) -> pe.CLIP:
    model = pe.CLIP(tiny.CORE, TEXT).eval()
    model.load_state_dict(saved.state_dict)
    return model


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 256, (90, 120 + i, 3), dtype=np.uint8)) for i in range(2)]


def published_ids(texts: list[str], length: int = 16) -> torch.Tensor:
    return transforms.get_text_tokenizer(length)(texts)


@pytest.mark.filterwarnings("ignore:.*longer than the context")
@torch.inference_mode()
def test_model_and_processor_give_midsights_numbers(folder: Path, ours: pe.CLIP, pictures: list[Image.Image]) -> None:
    model, processor = AutoModel.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    assert not model.training
    inputs = processor(images=pictures, text=TEXTS, padding=True, return_tensors="pt")
    found = model(**inputs)
    transform = transforms.get_image_transform(64, True, "bicubic", PREPROCESS.mean, PREPROCESS.std)
    pixels = torch.stack([transform(picture) for picture in pictures])
    assert torch.equal(inputs["pixel_values"], pixels)
    image, text, scale = ours(pixels, published_ids(TEXTS))
    assert (scale * image @ text.T).std() > 0.1
    torch.testing.assert_close(found.logits_per_image, scale * image @ text.T, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.logits_per_text, found.logits_per_image.T)
    torch.testing.assert_close(found.image_embeds, image)
    torch.testing.assert_close(found.text_embeds, text)
    features = model.get_image_features(pixel_values=pixels)
    torch.testing.assert_close(features.pooler_output, ours.encode_image(pixels))
    torch.testing.assert_close(features.last_hidden_state, ours.visual.forward_features(pixels, norm=True))
    text_inputs = processor(text=TEXTS, padding=True, return_tensors="pt")
    torch.testing.assert_close(
        model.get_text_features(**text_inputs).pooler_output, ours.encode_text(published_ids(TEXTS))
    )
    assert model(**inputs, return_dict=False)[0].shape == (2, len(TEXTS))


@torch.inference_mode()
def test_the_pipeline(folder: Path, ours: pe.CLIP, pictures: list[Image.Image]) -> None:
    labels = ["cat", "dog", "a very small horse"]
    found = pipeline("zero-shot-image-classification", model=str(folder))(pictures[0], candidate_labels=labels)
    transform = transforms.get_image_transform(64, True, "bicubic", PREPROCESS.mean, PREPROCESS.std)
    ids = published_ids([f"This is a photo of {label}." for label in labels])
    image, text, scale = ours(transform(pictures[0])[None], ids)
    expected = dict(zip(labels, (scale * image @ text.T).softmax(-1)[0].tolist(), strict=True))
    assert [row["label"] for row in found] == sorted(expected, key=expected.__getitem__, reverse=True)
    assert {row["label"]: row["score"] for row in found} == pytest.approx(expected, abs=1e-5)
    assert len({round(score, 3) for score in expected.values()}) == 3


@pytest.mark.filterwarnings("ignore:.*longer than the context")
def test_the_tokenizer_gives_the_published_ids(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    found = tokenizer(TEXTS, padding="max_length", return_tensors="pt")
    assert torch.equal(found["input_ids"].masked_fill(found["attention_mask"] == 0, 0), published_ids(TEXTS))
    assert tokenizer("a cat")["input_ids"] == [49406, 320, 2368, 49407]
    assert tokenizer.decode(tokenizer("A  Cat!")["input_ids"], skip_special_tokens=True).strip() == "a cat !"


def test_the_other_entry_points(folder: Path, tmp_path: Path) -> None:
    assert type(AutoConfig.from_pretrained(folder)).__name__ == "MidsightConfig"
    assert type(AutoModelForZeroShotImageClassification.from_pretrained(folder)).__name__ == "MidsightModel"
    processor = AutoImageProcessor.from_pretrained(folder)
    assert processor.preprocess_config == PREPROCESS
    pixels = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    arrays = [image.permute(1, 2, 0).numpy() for image in pixels]
    expected = processor(arrays, return_tensors="pt")["pixel_values"]
    assert torch.equal(processor(pixels, return_tensors="pt")["pixel_values"], expected)
    assert len(processor(arrays)["pixel_values"]) == 2
    with pytest.raises(TypeError):
        processor(arrays, do_resise=False)


def test_midsight_opens_the_folder_too(folder: Path, saved: Pretrained, tmp_path: Path) -> None:
    found = checkpoints.load_pretrained(folder)
    assert (found.name, found.vision, found.text, found.preprocess) == ("mine", tiny.CORE, TEXT, PREPROCESS)
    assert found.metadata == {"seed": 3}
    assert tiny.same(found.state_dict, saved.state_dict)
    assert found.identity() == saved.identity()
    AutoModel.from_pretrained(folder).save_pretrained(tmp_path)  # and what transformers saves again
    assert checkpoints.load_pretrained(tmp_path).identity() == saved.identity()


@torch.inference_mode()
def test_a_vision_tower_alone(tmp_path: Path) -> None:
    saved = Pretrained(None, tiny.LANG, None, PreprocessConfig(56), tiny.weights(tiny.LANG))
    folder = midsight.transformers.save_transformers(tmp_path / "lang", saved, max_shard_size="1MB")
    model, processor = AutoModel.from_pretrained(folder), AutoImageProcessor.from_pretrained(folder)
    tower = pe.VisionTransformer(tiny.LANG).eval()
    tower.load_state_dict(saved.state_dict)
    inputs = processor(Image.new("RGB", (30, 40), (200, 10, 90)), return_tensors="pt")
    tokens = tower(inputs["pixel_values"])
    assert tokens.std() > 0.1
    torch.testing.assert_close(model(**inputs).last_hidden_state, tokens)
    torch.testing.assert_close(model(**inputs).pooler_output, tokens.mean(1))
    with pytest.raises(ConfigError, match="vision tower alone"):
        model.get_text_features(torch.ones(1, 3, dtype=torch.long))


def test_half_precision_is_computed_in_what_is_asked_for(saved: Pretrained, tmp_path: Path) -> None:
    folder = midsight.transformers.save_transformers(tmp_path / "half", saved, dtype=torch.bfloat16)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    expected = {k: v if k == "logit_scale" else v.bfloat16().float() for k, v in saved.state_dict.items()}
    assert tiny.same({k.removeprefix("clip."): v for k, v in model.state_dict().items()}, expected)
    half: Any = AutoModel.from_pretrained(folder, dtype=torch.bfloat16)
    with torch.inference_mode():
        image = half.get_image_features(torch.rand(1, 3, 64, 64, dtype=torch.bfloat16)).pooler_output
    assert image.dtype == torch.bfloat16
    assert image.isfinite().all()


@pytest.mark.parametrize("dtype", [None, torch.float32, torch.bfloat16])
def test_a_table_of_eight_bit_floats(dtype: torch.dtype | None, tmp_path: Path) -> None:
    """transformers computes in the dtype of the rest, or in what is asked for; the table's values are kept."""
    state = tiny.shipped(text=TEXT)
    save = {"name": "mine", "vision": tiny.CORE, "text": TEXT, "preprocess": PREPROCESS}
    checkpoints.save_pretrained(tmp_path / "a", state, **save)  # type: ignore[arg-type]
    midsight.transformers.convert(tmp_path / "a", tmp_path / "b")
    model = AutoModel.from_pretrained(tmp_path / "b", **({} if dtype is None else {"dtype": dtype}))
    found = model.clip.token_embedding.weight
    assert found.dtype is (dtype or torch.float16)
    assert torch.equal(found.float(), state[tiny.TABLE].float())
    ours = pe.CLIP(tiny.CORE, TEXT).eval()
    ours.load_state_dict(state)
    ids = published_ids(TEXTS[:-1])  # the last is cut, with a warning
    with torch.inference_mode():
        expected, got = ours.encode_text(ids), model.get_text_features(ids).pooler_output.float()
    assert torch.nn.functional.cosine_similarity(got, expected).min() > (
        0.9999 if dtype is not torch.bfloat16 else 0.99
    )
    assert tiny.same(dict(checkpoints.load_pretrained(tmp_path / "b").state_dict), state)


def test_converting_from_any_source(saved: Pretrained, tmp_path: Path) -> None:
    checkpoints.write_safetensors(tmp_path / "a.safetensors", checkpoints.to_open_clip(saved.state_dict))
    done = midsight.transformers.convert(tmp_path / "a.safetensors", tmp_path / "b", max_shard_size="1MB")
    assert (done.name, done.entries, done.left_out) == (None, len(saved.state_dict), ())
    assert {"config.json", "tokenizer.json", "processor_config.json"} < {path.name for path in done.paths}
    model = AutoModel.from_pretrained(tmp_path / "b")
    assert tiny.same({k.removeprefix("clip."): v for k, v in model.state_dict().items()}, saved.state_dict)


def test_training(folder: Path) -> None:
    model = AutoModel.from_pretrained(folder).train()
    model.gradient_checkpointing_enable()
    loss = model(published_ids(["a cat", "a dog"]), torch.rand(2, 3, 64, 64), return_loss=True).loss
    loss.backward()
    assert loss > 0
    assert all(parameter.grad is not None for parameter in model.parameters())
    model.gradient_checkpointing_disable()


def test_a_configuration_without_arguments_is_a_published_model() -> None:
    config = midsight.transformers.MidsightConfig()
    model = MODELS["PE-Core-T16-384"]
    assert (config.name, *config.towers) == (model.name, model.vision, model.text)
    assert PreprocessConfig(**config.preprocess) == model.preprocess


def test_one_input_of_two(folder: Path) -> None:
    model = AutoModel.from_pretrained(folder)
    with pytest.raises(ShapeError, match="needs pixel_values and input_ids"):
        model(pixel_values=torch.rand(1, 3, 64, 64))
    with pytest.raises(ShapeError, match="pixel_values are missing"):
        model.get_image_features()


def test_without_transformers_the_extra_is_named() -> None:
    script = (
        "import sys\n"
        "sys.modules['transformers'] = None\n"
        "from midsight.errors import MissingDependencyError\n"
        "try:\n"
        "    import midsight.transformers\n"
        "except MissingDependencyError as error:\n"
        "    assert 'midsight[plm]' in str(error)\n"
        "else:\n"
        "    raise SystemExit('imported')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
