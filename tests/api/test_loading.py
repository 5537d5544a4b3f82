"""What `load` accepts, and what it says about the rest."""

from pathlib import Path

import numpy as np
import pytest
import torch

import midsight
from midsight import checkpoints, errors, pe, threads, transforms
from midsight.api import loading

PICTURE = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)


def test_folder_file_and_name(tiny_folder: Path, tmp_path: Path) -> None:
    folder = midsight.load(tiny_folder)
    assert folder.name == "tiny"
    assert isinstance(folder.model, pe.CLIP)
    assert repr(folder) == "<Perception tiny, 32 dimensions, on cpu>"
    name = "PE-Core-T16-384"
    torch.manual_seed(0)
    weights = pe.VisionTransformer.from_config(name).state_dict()
    checkpoints.write_torch(tmp_path / "tower.pt", weights)
    tower = midsight.load(tmp_path / "tower.pt", image_size=64)
    assert tower.name == name
    assert tower.dim == 512
    assert not tower.has_text
    assert tower.embed_images(PICTURE).shape == (1, 512)


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(errors.UnknownModelError, match="PE-Core-L14-336"):
        midsight.load("PE-Core-L14-366")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(errors.CheckpointError, match="missing.pt"):
        midsight.load(tmp_path / "missing.pt")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"device": "abacus"}, errors.ConfigError, "abacus"),
        ({"device": "xla"}, errors.ConfigError, "no device 'xla'"),
        ({"dtype": "int8"}, errors.ConfigError, "auto, fp32 or bf16"),
        ({"threads": 0}, errors.ConfigError, "threads"),
        ({"image_size": 33}, errors.ConfigError, "take 32 or 40"),
        ({"image_size": 4}, errors.ConfigError, "patch size 8"),
        ({"layer": 3}, errors.LayerError, "3 blocks"),
    ],
)
def test_options_that_cannot_be(
    tiny_folder: Path, options: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        midsight.load(tiny_folder, **options)  # type: ignore[arg-type]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device")
def test_a_device_that_is_not_there(tiny_folder: Path) -> None:
    with pytest.raises(errors.ConfigError, match="no device 'cuda:1'"):
        midsight.load(tiny_folder, device="cuda:1")


def test_image_size_reaches_preprocessing_and_identity(tiny_folder: Path) -> None:
    native, large = midsight.load(tiny_folder), midsight.load(tiny_folder, image_size=64)
    assert (native.preprocess.image_size, large.preprocess.image_size) == (32, 64)
    assert large.features(PICTURE, [0])[0].shape[-2:] == (8, 8)
    assert native.identity != large.identity


def test_identity_tells_weights_layer_and_preprocessing_apart(tiny_folder: Path, dense_folder: Path) -> None:
    found = [midsight.load(tiny_folder), midsight.load(tiny_folder, layer=1), midsight.load(tiny_folder, layer=0)]
    found += [midsight.load(dense_folder)]
    assert len({model.identity for model in found}) == 4
    assert midsight.load(tiny_folder, layer=-2).identity == found[1].identity
    assert found[0].identity == checkpoints.load_pretrained(tiny_folder).identity()


def test_a_layer_is_the_truncated_tower(tiny_folder: Path, tiny_model: midsight.Perception) -> None:
    model = midsight.load(tiny_folder, layer=1)
    assert (model.layer, model.tower.layers, model.dim) == (1, 2, 48)
    tokens = tiny_model.features(PICTURE, [1], as_maps=False)[0][0]
    mean = tokens[1:].mean(axis=0)  # without the class token
    np.testing.assert_allclose(model.embed_images(PICTURE)[0], mean / np.linalg.norm(mean), atol=1e-6)


def test_bf16_is_close_to_fp32(tiny_folder: Path) -> None:
    exact, quick = midsight.load(tiny_folder), midsight.load(tiny_folder, dtype="bf16")
    a, b = exact.embed_images(PICTURE)[0], quick.embed_images(PICTURE)[0]
    assert float(a @ b) > 0.999
    assert not np.array_equal(a, b)
    text = exact.embed_texts("a dog")[0] @ quick.embed_texts("a dog")[0]
    assert float(text) > 0.999
    assert exact.identity == quick.identity


def test_fp32_is_the_plain_towers_result(tiny_folder: Path, tiny_model: midsight.Perception) -> None:
    found = checkpoints.load_pretrained(tiny_folder)
    assert found.text is not None
    plain = pe.CLIP(found.vision, found.text)
    plain.load_state_dict(found.state_dict)
    plain.eval()
    transform = midsight.transforms.get_image_transform(32)
    with torch.no_grad():
        expected = plain.encode_image(transform(PICTURE)[None], normalize=True)
    np.testing.assert_allclose(tiny_model.embed_images(PICTURE), expected.numpy(), atol=2e-6)


def test_a_table_of_eight_bit_floats_is_computed_in_what_is_asked_for(packed_folder: Path) -> None:
    """Against the same values in single precision; bfloat16 holds 8-bit floats too, so the table costs it nothing."""
    found = checkpoints.load_pretrained(packed_folder)
    assert found.state_dict["token_embedding.weight"].dtype is torch.float8_e4m3fn
    plain = pe.CLIP(found.vision, found.text).eval()
    plain.load_state_dict({key: tensor.float() for key, tensor in found.state_dict.items()})
    texts = ["a cat", "two dogs in the snow"]
    tokens = transforms.get_text_tokenizer(plain.context_length)(texts)
    with torch.inference_mode():
        expected = torch.nn.functional.normalize(plain.encode_text(tokens), dim=-1)
    assert (expected[0] - expected[1]).norm() > 0.1
    exact = midsight.load(packed_folder, device="cpu").embed_texts(texts)
    near = midsight.load(packed_folder, device="cpu", dtype="bf16").embed_texts(texts)
    torch.testing.assert_close(torch.from_numpy(exact), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.from_numpy(near), expected, rtol=0, atol=0.02)
    assert midsight.load(packed_folder, device="cpu").identity == found.identity()


def test_threads_follow_the_machine_unless_they_are_fixed(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settled: list[int | None] = []
    monkeypatch.setattr(threads, "settle", lambda fixed=None: settled.append(fixed))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    midsight.load(tiny_folder).embed_images(PICTURE)
    midsight.load(tiny_folder, threads=3).embed_images(PICTURE)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    midsight.load(tiny_folder).embed_images(PICTURE)
    assert settled == [None, 3, torch.get_num_threads()]


def test_embedded_model_is_the_default(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "EMBEDDED", tiny_folder)
    assert midsight.load().name == "tiny"


def test_embedded_model_has_a_name() -> None:
    assert midsight.load("embedded", device="cpu").identity == midsight.load(device="cpu").identity
