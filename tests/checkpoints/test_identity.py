"""The hash changes with everything that changes results, and with nothing else."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from midsight import checkpoints
from midsight.configs import PreprocessConfig
from midsight.errors import LayerError
from tests.checkpoints import tiny

PREPROCESS = PreprocessConfig(64)


def test_it_is_what_the_docstring_says() -> None:
    state = {"b": torch.tensor([1.0, 2.0]), "a": torch.tensor([[3.0]], dtype=torch.float16)}
    head = {"layer": None, "preprocess": {"image_size": 64, "interpolation": "bilinear", "mean": [0.5] * 3}}
    head["preprocess"] |= {"resize": "squash", "std": [0.5] * 3}
    digest = hashlib.sha256(json.dumps(head | {"version": 1}, sort_keys=True).encode())
    for name, tensor in (("a", state["a"]), ("b", state["b"])):
        dtype = "float16" if name == "a" else "float32"
        digest.update(json.dumps([f"visual.{name}", dtype, list(tensor.shape)]).encode())
        digest.update(hashlib.sha256(tensor.numpy().tobytes()).digest())
    assert checkpoints.identity(state, PREPROCESS) == digest.hexdigest()


def test_file_layout_and_order_do_not_count(tmp_path: Path) -> None:
    state = tiny.pair()
    expected = checkpoints.identity(state, PREPROCESS)
    assert checkpoints.identity(dict(reversed(state.items())), PREPROCESS) == expected
    checkpoints.write_torch(tmp_path / "a.pt", state)
    checkpoints.write_safetensors(tmp_path / "a.safetensors", checkpoints.to_open_clip(state))
    for name in ("a.pt", "a.safetensors"):
        assert checkpoints.identity(checkpoints.read_state_dict(tmp_path / name), PREPROCESS) == expected
    tower = checkpoints.vision_tower(state)
    again = checkpoints.from_timm(checkpoints.to_timm(tower))
    assert checkpoints.identity(again, PREPROCESS) == checkpoints.identity(tower, PREPROCESS)
    bare = {f"visual.{key}": tensor for key, tensor in tower.items()}
    assert checkpoints.identity(bare, PREPROCESS) == checkpoints.identity(tower, PREPROCESS)


def test_eight_bit_floats_count_as_stored(tmp_path: Path) -> None:
    state = tiny.shipped()
    folder = checkpoints.save_pretrained(
        tmp_path / "a", state, name="a", vision=tiny.CORE, text=tiny.TEXT, preprocess=PREPROCESS
    )
    assert checkpoints.load_pretrained(folder).identity() == checkpoints.identity(state, PREPROCESS)
    checkpoints.convert(folder, tmp_path / "b", "midsight")
    assert checkpoints.load_pretrained(tmp_path / "b").identity() == checkpoints.identity(state, PREPROCESS)
    moved, half = (state | {tiny.TABLE: state[tiny.TABLE].clone()} for _ in range(2))
    moved[tiny.TABLE].view(torch.uint8)[7, 5] ^= 1
    half[tiny.TABLE] = state[tiny.TABLE].half()
    found = {checkpoints.identity(s, PREPROCESS) for s in (state, moved, half)}
    assert len(found) == 3


def test_everything_else_counts() -> None:
    state = tiny.weights()
    other = {key: tensor.clone() for key, tensor in state.items()}
    other["transformer.resblocks.1.ln_1.bias"][5] += 1e-6
    identities = [
        checkpoints.identity(state, PREPROCESS),
        checkpoints.identity(other, PREPROCESS),
        checkpoints.identity({k: v.half() for k, v in state.items()}, PREPROCESS),
        checkpoints.identity({k: v for k, v in state.items() if k != "proj"}, PREPROCESS),
        checkpoints.identity(state | {"proj": state["proj"].T}, PREPROCESS),
        checkpoints.identity(state, replace(PREPROCESS, mean=(0.48, 0.46, 0.41))),
        checkpoints.identity(state, replace(PREPROCESS, resize="center_crop")),
        checkpoints.identity(state, PREPROCESS, 0),
        checkpoints.identity(state, PREPROCESS, 1),
    ]
    assert len(set(identities)) == len(identities)
    assert all(len(name) == 64 for name in identities)


def test_a_layer_counts_by_its_place_not_by_how_it_is_written() -> None:
    state = tiny.pair()
    assert checkpoints.identity(state, PREPROCESS, -1) == checkpoints.identity(state, PREPROCESS, 1)
    for layer in (2, -3):
        with pytest.raises(LayerError, match=r"which has 2 blocks \(0 to 1\)"):
            checkpoints.identity(state, PREPROCESS, layer)
