"""All stages in a tiny world, from texts to the folder that ships."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import midsight
from midsight.checkpoints import load_pretrained
from midsight.data.crops import CropMixer, Mixture
from midsight.errors import TrainingError
from midsight.pe import CLIP
from midsight.train.core import train_core
from midsight.train.embedded import head, run, texts, trunk
from midsight.train.embedded.head import HeadConfig
from midsight.train.embedded.recipe import Recipe
from midsight.train.embedded.tower import TowerConfig
from midsight.train.loop import Outcome
from tests.train.embedded import small

RECIPE = Recipe(
    samples=24,
    phrases=40,
    mixture=Mixture(size=64),
    words=small.WORDS,
    text=replace(small.TEXT, steps=3),
    tower=TowerConfig(width=24, layers=1, heads=2),
    head=HeadConfig(steps=3, batch=16, texts=24),
)
VISION = """
[data]
batch_size = 4
micro_batch = 4
workers = 0
[[stages]]
image_size = 64
samples = 12
[optim]
name = "adamw"
lr = 1e-3
warmup_steps = 0
[loss]
teacher_texts = true
teacher_features = 5.0
[finetune]
locked = "text"
[steps]
mask = false
[run]
device = "cpu"
"""


@pytest.fixture
def staged(world: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny world where `run` looks for packages; returns the work folder."""
    photographs, furniture = small.pictures(world, "photograph", 2), small.drawings(world)
    monkeypatch.setattr(run.packaged, "photographs", lambda root: photographs)
    monkeypatch.setattr(run.packaged, "textures", lambda root: small.pictures(world, "texture", 1))
    monkeypatch.setattr(run.packaged, "furniture", lambda root: furniture)
    monkeypatch.setattr(run, "training_drawings", lambda root: furniture)
    monkeypatch.setattr(run, "SentenceEncoder", small.Sentences)
    monkeypatch.setattr(run, "_CALIBRATION", 16)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    (world / "work").mkdir()
    return world / "work"


def test_all_stages_make_the_model_that_ships(staged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = staged / "out"
    run.train(RECIPE, staged, out)
    found = load_pretrained(out)
    kinds = {key: value.dtype for key, value in found.state_dict.items()}
    assert kinds.pop(run.TABLE) is torch.float8_e4m3fn
    assert kinds.pop("logit_scale") is torch.float32
    assert set(kinds.values()) == {torch.float16}
    assert math.log(5) - 1e-6 <= found.state_dict["logit_scale"] <= math.log(100) + 1e-6
    assert (found.name, found.preprocess.image_size, found.vision.layers) == ("embedded", 64, 1)
    assert found.metadata["recipe"]["text"]["steps"] == 3
    assert "vision_recipe" not in found.metadata
    kept = torch.load(staged / "text.pt", weights_only=False)
    table = found.state_dict[run.TABLE].float()
    torch.testing.assert_close(table, kept.token_embedding.weight.detach(), rtol=0.07, atol=0.003)
    assert "not measured yet" in (out / "README.md").read_text()
    model = midsight.load(out, device="cpu")
    assert model.embed_texts(["tabby"]).shape == (1, small.WORDS.width)

    def never(*_: object) -> None:
        raise AssertionError("a finished stage was made again")

    monkeypatch.setattr(texts, "train_text", never)
    monkeypatch.setattr(head, "fit_head", never)
    run.train(RECIPE, staged, staged / "again")
    assert load_pretrained(staged / "again").identity() == found.identity()
    with pytest.raises(AssertionError, match="made again"):
        run.train(replace(RECIPE, head=replace(RECIPE.head, steps=4)), staged, out)


def test_the_vision_tower_is_trained_where_the_recipe_says_so(staged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (staged / "vision.toml").write_text(VISION)
    monkeypatch.setattr(run, "VISION_RECIPE", str(staged / "vision.toml"))
    run.train(replace(RECIPE, vision=True), staged, staged / "out")
    start, found = (load_pretrained(staged / name).state_dict for name in ("start", "out"))
    changed = {key for key, value in found.items() if not torch.equal(value.float(), start[key].half().float())}
    assert any(".resblocks.0." in key and key.startswith("visual.") for key in changed)
    assert not any(key.startswith("visual.stem.") for key in changed)
    assert {key for key in changed if not key.startswith("visual.")} <= {"logit_scale", run.TABLE}
    assert load_pretrained(staged / "out").metadata["vision_recipe"]["loss"]["teacher_texts"] is True


def test_a_vision_run_that_was_stopped_is_told(staged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (staged / "vision.toml").write_text(VISION)
    monkeypatch.setattr(run, "VISION_RECIPE", str(staged / "vision.toml"))
    monkeypatch.setattr(run, "train_core", lambda *args, **options: Outcome(2, False, 15))
    with pytest.raises(TrainingError, match=r"vision: stopped after step 2; the same command goes on"):
        run.train(replace(RECIPE, vision=True), staged, staged / "out")
    assert train_core is not run.train_core


def test_the_scale_follows_how_sure_the_trunk_is(staged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = small.build_vocabulary(staged.parent)
    mixer = CropMixer(run.packaged.photographs(staged), run.packaged.textures(staged), small.drawings(staged),
                      Mixture(size=64), 0)  # fmt: skip
    torch.manual_seed(0)
    vision = run.tower.new_tower(RECIPE.tower, words.words, small.trunk(), small.pooled(80), 64)
    text = texts.new_tower(small.TEXT, small.WORDS.width)
    pair: CLIP = run._pair(vision, text, 1.0)
    net, scales = small.trunk(), []
    places = {text: words.targets[row] for row, text in enumerate(words.texts)}
    monkeypatch.setattr(
        texts, "encode_all", lambda tower, tokenizer, said: torch.stack([places[text] for text in said])
    )  # fmt: skip
    for sharpness in (0.02, 20.0):
        sure = trunk.Trunk(net.stem, net.weight * sharpness, net.bias * sharpness)
        scales.append(run.calibrate(run.Material(sure, words, mixer), pair, 24, 0))
    assert 5 <= scales[0] < scales[1] <= 100


def test_revision_is_a_commit_or_says_that_it_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    found = run.revision().rstrip("+")
    assert found == "unknown" or (len(found) == 40 and set(found) <= set("0123456789abcdef"))
    monkeypatch.setenv("PATH", "")
    assert run.revision() == "unknown"
