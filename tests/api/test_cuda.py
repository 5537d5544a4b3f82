"""`midsight.load` and the commands on a CUDA device, with the embedded model and the shipped pictures."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import midsight
from midsight.cli.main import app
from midsight.pe import gpu

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no CUDA device here: what only a GPU can show is not tested on this machine"
)
DEMO = Path(midsight.__file__).parent / "assets" / "demo"
PICTURES = sorted(DEMO.glob("*.jpg"))
LABELS = ["a cat", "a cup of coffee", "a rocket", "a motorcycle", "a temple"]


@pytest.fixture(scope="module")
def on_cpu() -> midsight.Perception:
    return midsight.load(device="cpu")


def test_auto_takes_the_gpu() -> None:
    assert midsight.load().device.type == "cuda"


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_embeddings_and_answers_are_those_of_the_cpu(dtype: str, on_cpu: midsight.Perception) -> None:
    model = midsight.load(device="cuda", dtype=dtype)
    found, expected = model.embed_images(PICTURES), on_cpu.embed_images(PICTURES)
    least = {"fp32": 0.99999, "bf16": 0.995}[dtype]  # cuDNN convolves in TF32 by default
    assert np.sum(found * expected, axis=1).min() > least
    assert np.sum(model.embed_texts(LABELS) * on_cpu.embed_texts(LABELS), axis=1).min() > least
    ours, theirs = model.classify(PICTURES, LABELS, top_k=1), on_cpu.classify(PICTURES, LABELS, top_k=1)
    assert [one[0].label for one in ours] == [one[0].label for one in theirs]
    for one, other in zip(model.features(PICTURES, [0, -1]), on_cpu.features(PICTURES, [0, -1]), strict=True):
        assert one.shape == other.shape
        assert np.sum(one * other) / np.linalg.norm(one) / np.linalg.norm(other) > least


def test_one_picture_at_a_time_becomes_a_graph() -> None:
    model = midsight.load(device="cuda", dtype="bf16", graphs=True)
    rows = [model.embed_images(PICTURES[0])[0] for _ in range(4)]
    assert isinstance(model.tower._packed, gpu.GpuTower)
    assert model.tower._packed.graphs is not None
    assert len(model.tower._packed.graphs) == 1
    assert min(float(rows[0] @ row) for row in rows) > 0.9999


def test_many_pictures_in_batches_of_any_size() -> None:
    model = midsight.load(device="cuda", dtype="bf16")
    many = [PICTURES[number % len(PICTURES)] for number in range(23)]
    whole, parts = model.embed_images(many), model.embed_images(many, batch_size=5)
    assert np.sum(whole * parts, axis=1).min() > 0.999


def test_commands(tmp_path: Path, on_cpu: midsight.Perception) -> None:
    where = ["--device", "cuda", "--dtype", "bf16"]
    done = CliRunner().invoke(app, ["classify", *map(str, PICTURES), "--labels", ",".join(LABELS), "--json", *where])
    assert done.exit_code == 0, done.output
    found = [json.loads(line)["predictions"][0]["label"] for line in done.stdout.splitlines()]
    assert found == [one[0].label for one in on_cpu.classify(PICTURES, LABELS, top_k=1)]
    done = CliRunner().invoke(app, ["embed", *map(str, PICTURES), "-o", str(tmp_path / "rows.npy"), *where])
    assert done.exit_code == 0, done.output
    assert np.sum(np.load(tmp_path / "rows.npy") * on_cpu.embed_images(PICTURES), axis=1).min() > 0.995
