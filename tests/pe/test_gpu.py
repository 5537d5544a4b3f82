"""The GPU path's arithmetic, which plain torch can compute anywhere, and its Triton kernels under their interpreter.

What needs a CUDA device stands in test_cuda.py.
"""

import contextlib
import copy
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from midsight import pe
from midsight.pe import fused, gpu
from tests.pe import tiny
from tests.pe.test_packed import TEXTS, VARIANTS, relative_error, token_rows

ROOT = Path(__file__).parent.parent.parent


def on_gpu_path(tower: pe.VisionTransformer, dtype: torch.dtype = torch.float32) -> pe.VisionTransformer:
    """The tower packed as `pack` packs it on CUDA."""
    tower._packed = gpu.GpuTower(tower, dtype)
    return tower


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("size", [(64, 64), (48, 80)])
@torch.inference_mode()
def test_float32_is_exact(variant: str, size: tuple[int, int]) -> None:
    tower, images = tiny.vision(**VARIANTS[variant]), tiny.images(3, *size)
    expected, layer = tower(images), tower.forward_features(images, layer_idx=1)
    several = tower.forward_intermediates(images, [2, 0, 2], as_maps=True, norm=True)
    on_gpu_path(tower)
    assert relative_error(tower(images), expected) < 5e-6
    assert relative_error(tower.forward_features(images, layer_idx=1), layer) < 5e-6
    for found, one in zip(tower.forward_intermediates(images, [2, 0, 2], True, True), several, strict=True):
        assert found.shape == one.shape
        assert relative_error(found, one) < 5e-6


@pytest.mark.parametrize("pool", ["tok", "avg", "none"])
@torch.inference_mode()
def test_other_poolings_and_patch_tokens(pool: str) -> None:
    tower, images = tiny.vision(use_cls_token=True, pool_type=pool), tiny.images(2)
    expected = tower(images, strip_cls_token=True), tower.forward_features(images, norm=True, strip_cls_token=True)
    on_gpu_path(tower)
    assert relative_error(tower(images, strip_cls_token=True), expected[0]) < 5e-6
    found = tower.forward_features(images, norm=True, strip_cls_token=True)
    assert relative_error(found, expected[1]) < 5e-6


@torch.inference_mode()
def test_bfloat16_keeps_a_float32_residual() -> None:
    tower, images = tiny.vision(use_cls_token=True), tiny.images(3)
    expected, layer = tower(images), tower.forward_features(images, layer_idx=1)
    found = on_gpu_path(tower, torch.bfloat16)(images)
    assert found.dtype == tower.forward_features(images, layer_idx=1).dtype == torch.float32
    assert torch.cosine_similarity(found, expected).min() > 0.999
    assert relative_error(found, expected) > 1e-6, "bfloat16 did not take part"
    assert torch.cosine_similarity(tower.forward_features(images, layer_idx=1), layer, dim=-1).min() > 0.999


@torch.inference_mode()
def test_truncate_reaches_the_packed_blocks() -> None:
    tower, images = tiny.vision(), tiny.images(1)
    expected = tower.forward_features(images, layer_idx=1)
    on_gpu_path(tower).truncate(1)
    assert relative_error(tower.forward_features(images), expected) < 5e-6


def test_copies_training_and_new_weights_leave_the_packed_parts_behind() -> None:
    tower, other, images = on_gpu_path(tiny.vision()), tiny.vision(seed=1), tiny.images(1)
    assert copy.deepcopy(tower)._packed is None
    assert pickle.loads(pickle.dumps(tower))._packed is None
    tower(images).sum().backward()  # gradients go through the plain tower
    assert tower.conv1.weight.grad is not None
    tower.load_state_dict(other.state_dict())
    with torch.inference_mode():
        assert torch.equal(tower(images), other(images))
    assert on_gpu_path(tower).train()._packed is None


@pytest.mark.parametrize("layers", [1, 3])
@torch.inference_mode()
def test_texts_with_and_without_padding_are_exact(layers: int) -> None:
    tower, ids = tiny.drawn(pe.TextTransformer(pe.PETextConfig(**(tiny.TEXT | {"layers": layers})))), token_rows(TEXTS)
    expected = tower(ids)
    tower._packed_text = gpu.GpuText(tower, torch.float32)
    assert relative_error(tower(ids), expected) < 5e-6
    short = [row for row, length in enumerate(TEXTS) if length <= 8]
    cut = gpu.without_padding(ids[short])
    assert cut.shape == (len(short), 8)
    assert relative_error(tower(cut), expected[short]) < 5e-6
    assert tower(ids[:0]).shape == (0, 24)
    tower._packed_text = gpu.GpuText(tower, torch.bfloat16)
    assert torch.cosine_similarity(tower(ids), expected).min() > 0.999


@pytest.mark.parametrize("packed", [False, True])
@torch.inference_mode()
def test_an_empty_batch_needs_no_kernel(packed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    pair, ids, images = tiny.clip(use_cls_token=True), token_rows(TEXTS), tiny.images(2)
    if packed:
        on_gpu_path(pair.visual)
        pair._packed_text = gpu.GpuText(pair, torch.float32)
    full = pair.encode_image(images).shape, pair.encode_text(ids).shape
    attention = F.scaled_dot_product_attention

    def as_on_cuda(q: torch.Tensor, *rest: Any, **named: Any) -> Any:
        return attention(q, *rest, **named) if q.numel() else None  # no such rows, no such tensor

    monkeypatch.setattr(F, "scaled_dot_product_attention", as_on_cuda)
    monkeypatch.setattr(fused, "_kernels", lambda device: object())  # whoever asks it for a kernel fails
    assert pair.encode_image(images[:0]).shape == (0, *full[0][1:])
    assert pair.encode_text(ids[:0]).shape == (0, *full[1][1:])
    assert pair.visual.forward_features(images[:0]).shape[0] == 0
    with pytest.raises(AttributeError) if packed else contextlib.nullcontext():
        pair.encode_image(images)


def test_cutting_keeps_every_end_of_text() -> None:
    ids = token_rows(TEXTS)
    assert gpu.without_padding(ids).shape == (
        len(TEXTS),
        20,
    )  # the longest fills the context, which is no multiple of 8
    for row, length in zip(ids, TEXTS, strict=True):
        cut = gpu.without_padding(row[None])
        assert cut.shape[1] == min(20, -(-length // 8) * 8)
        assert cut.argmax() == length - 1
    assert gpu.without_padding(ids[:0]).shape == (0, 20)


def test_kernels_agree_with_plain_torch_under_the_interpreter() -> None:
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.pe.interpreted"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    errors = json.loads(done.stdout.splitlines()[-1])
    assert len(errors) == 18
    for case, (error, allowed) in errors.items():
        assert error < allowed, case
