"""From every layout to every other, opened by the programs they belong to."""

import itertools
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch

from midsight import checkpoints
from midsight.configs import MODELS, PreprocessConfig
from midsight.errors import CheckpointError, InputError, OutputError
from tests import peers
from tests.checkpoints import tiny

TARGETS = {
    "official": "a.pt",
    "timm": "timm.safetensors",
    "open_clip": "oc.safetensors",
    "perception_lm": "plm.safetensors",
    "midsight": "folder",
}
HOLDS_TEXT = ("official", "open_clip", "midsight")


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(TARGETS, 2)))
def test_from_every_layout_to_every_other(first: str, second: str, tmp_path: Path) -> None:
    """Through `first`, `second` and back to the published file; bit-equal, text included where both hold it."""
    checkpoints.write_torch(tmp_path / "start.pt", tiny.pair())
    left_out: set[str] = set()
    source: Path = tmp_path / "start.pt"
    for number, layout in enumerate((first, second, "official")):
        if layout == "open_clip" and left_out:
            with pytest.raises(CheckpointError, match="needs both towers"):
                checkpoints.convert(source, tmp_path / "x", "open_clip")
            return
        done = checkpoints.convert(source, tmp_path / f"{number}{TARGETS[layout]}", layout)  # type: ignore[arg-type]
        assert all(path.is_file() for path in done.paths)
        left_out |= set(done.left_out)
        source = tmp_path / f"{number}{TARGETS[layout]}"
    expected = checkpoints.text_tower(tiny.pair()).keys()
    assert left_out == (set() if {first, second} <= set(HOLDS_TEXT) else expected)
    kept = tiny.pair() if not left_out else checkpoints.vision_tower(tiny.pair())
    assert tiny.same(torch.load(source, weights_only=True), kept)


@pytest.mark.parametrize("dtype", [None, torch.float16, torch.float32])
@pytest.mark.parametrize("layout", TARGETS)
def test_a_table_of_eight_bit_floats_goes_to_every_layout(
    layout: str, dtype: torch.dtype | None, tmp_path: Path
) -> None:
    state = tiny.shipped()
    checkpoints.save_pretrained(
        tmp_path / "a", state, name="mine", vision=tiny.CORE, text=tiny.TEXT, preprocess=PreprocessConfig(64)
    )
    checkpoints.convert(tmp_path / "a", tmp_path / TARGETS[layout], layout, dtype=dtype)  # type: ignore[arg-type]
    found = checkpoints.read_state_dict(tmp_path / TARGETS[layout])
    expected = state if layout in HOLDS_TEXT else checkpoints.vision_tower(state)
    assert found.keys() == expected.keys()
    for key, tensor in expected.items():
        torch.testing.assert_close(found[key].float(), tensor.float(), rtol=0, atol=0)
    if layout in HOLDS_TEXT and dtype is None:
        assert found[tiny.TABLE].dtype == (torch.float16 if layout == "official" else torch.float8_e4m3fn)


@pytest.mark.parametrize("name", ["PE-Core-T16-384", "PE-Spatial-T16-512"])
def test_timm_opens_the_folder(name: str, tmp_path: Path) -> None:
    model = MODELS[name]
    state = peers.random_state(checkpoints.expected_shapes(model.vision))
    checkpoints.write_torch(tmp_path / "a.pt", state)
    done = checkpoints.convert(tmp_path / "a.pt", tmp_path / "timm", "timm")
    assert {path.name for path in done.paths} == {"config.json", "model.safetensors"}
    theirs = timm.create_model(f"local-dir:{tmp_path / 'timm'}", pretrained=True)
    assert tuple(theirs.pretrained_cfg["mean"]) == (0.5, 0.5, 0.5)
    assert tiny.same(checkpoints.from_timm(theirs.state_dict()), state)
    found = checkpoints.open_pretrained(tmp_path / "timm")
    assert (found.name, found.vision, found.text) == (name, model.vision, None)
    assert found.preprocess == model.preprocess


def test_open_clip_opens_the_folder(tmp_path: Path) -> None:
    import open_clip

    model = MODELS["PE-Core-T16-384"]
    state = peers.random_state(checkpoints.expected_shapes(model.vision, model.text))
    checkpoints.write_torch(tmp_path / "a.pt", state)
    done = checkpoints.convert(tmp_path / "a.pt", tmp_path / "oc", "open_clip")
    assert {path.name for path in done.paths} == {"open_clip_config.json", "open_clip_model.safetensors"}
    theirs, transform = open_clip.create_model_from_pretrained(f"local-dir:{tmp_path / 'oc'}")
    assert tiny.same(checkpoints.from_open_clip(theirs.state_dict()), state)
    assert "mean=(0.5, 0.5, 0.5)" in str(transform) or "mean=[0.5, 0.5, 0.5]" in str(transform)
    found = checkpoints.open_pretrained(tmp_path / "oc")
    assert (found.name, found.vision, found.text) == (model.name, model.vision, model.text)
    assert found.preprocess == model.preprocess
    state[tiny.TABLE] = (100 * state[tiny.TABLE]).to(torch.float8_e4m3fn)
    checkpoints.write_safetensors(tmp_path / "b.safetensors", state)
    checkpoints.convert(tmp_path / "b.safetensors", tmp_path / "oc", "open_clip")
    theirs, _ = open_clip.create_model_from_pretrained(f"local-dir:{tmp_path / 'oc'}")
    assert torch.equal(theirs.text.token_embedding.weight, state[tiny.TABLE].float())


def test_open_clips_preprocessing_is_carried_both_ways(tmp_path: Path) -> None:
    model = MODELS["PE-Core-T16-384"]
    state = {
        key: torch.zeros(shape, dtype=torch.float16)
        for key, shape in checkpoints.expected_shapes(model.vision, model.text).items()
    }
    preprocess = PreprocessConfig(384, "center_crop", "bicubic", (0.48, 0.46, 0.41), (0.27, 0.26, 0.28))
    checkpoints.save_pretrained(
        tmp_path / "a", state, name=model.name, vision=model.vision, text=model.text, preprocess=preprocess
    )
    checkpoints.convert(tmp_path / "a", tmp_path / "oc", "open_clip", max_shard_size="30MB")
    assert checkpoints.open_pretrained(tmp_path / "oc").preprocess == preprocess


def test_dtype_and_shards(tmp_path: Path) -> None:
    checkpoints.write_torch(tmp_path / "a.pt", tiny.pair())
    done = checkpoints.convert(
        tmp_path / "a.pt", tmp_path / "b", "midsight", dtype=torch.bfloat16, max_shard_size="1MB"
    )
    assert len(done.paths) > 3
    assert checkpoints.load_pretrained(tmp_path / "b").state_dict["visual.proj"].dtype == torch.bfloat16
    assert done.entries == len(tiny.pair())


def test_a_file_can_be_converted_onto_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    checkpoints.write_safetensors(path, tiny.pair())
    checkpoints.convert(path, path, "open_clip")
    assert checkpoints.detect_layout(checkpoints.read_tensors(path)) == "open_clip"
    assert tiny.same(checkpoints.read_state_dict(path), tiny.pair())


def test_what_lies_beside_a_perception_lm_is_reported(tmp_path: Path) -> None:
    weights = checkpoints.to_perception_lm(tiny.weights(tiny.LANG)) | {"lm_head.weight": torch.zeros(2, 2)}
    checkpoints.write_safetensors(tmp_path / "a.safetensors", weights)
    done = checkpoints.convert(tmp_path / "a.safetensors", tmp_path / "b.pt", "official")
    assert done.left_out == ("lm_head.weight",)


def test_targets_that_cannot_be(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    checkpoints.write_torch(path, tiny.pair())
    with pytest.raises(InputError, match="'onnx' is not among the layouts that are written here, official, timm"):
        checkpoints.convert(path, tmp_path / "b", "onnx")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"is one file; give it a name that ends in \.pt or \.pth"):
        checkpoints.convert(path, tmp_path / "b", "official")
    with pytest.raises(InputError, match="the midsight layout is a folder"):
        checkpoints.convert(path, tmp_path / "b.safetensors", "midsight")
    with pytest.raises(CheckpointError, match=r"timm has no name for this configuration"):
        checkpoints.convert(path, tmp_path / "b", "timm")
    with pytest.raises(CheckpointError, match=r"open_clip has no name for this configuration"):
        checkpoints.convert(path, tmp_path / "b", "open_clip")
    with pytest.raises(OutputError, match="is a file, expected a folder"):
        checkpoints.convert(path, path, "perception_lm")
    assert list(tmp_path.iterdir()) == [path]


def test_the_package_brings_no_other_program() -> None:
    script = (
        "import sys, midsight.checkpoints\n"
        "found = {'timm', 'open_clip', 'transformers', 'torchvision', 'huggingface_hub'} & set(sys.modules)\n"
        "assert not found, found\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_inspect_tells_what_a_checkpoint_holds(tmp_path: Path) -> None:
    state = {key: tensor.half() for key, tensor in checkpoints.to_open_clip(tiny.pair()).items()}
    checkpoints.write_safetensors(tmp_path / "a.safetensors", state)
    summary = checkpoints.inspect(tmp_path / "a.safetensors")
    parameters = sum(tensor.numel() for tensor in tiny.pair().values())
    assert (summary.layout, summary.name, summary.vision, summary.text) == ("open_clip", None, tiny.CORE, tiny.TEXT)
    assert (summary.entries, summary.parameters, summary.nbytes) == (len(tiny.pair()), parameters, 2 * parameters)
    assert summary.dtypes == ("float16",)
