"""Recipes, switches and overrides."""

from dataclasses import replace
from pathlib import Path

import pytest

from midsight.errors import ConfigError
from midsight.train.config import (
    STEPS,
    ModelConfig,
    Stage,
    TrainConfig,
    preprocess_of,
    read_recipe,
    resolve,
    total_steps,
    towers,
)
from midsight.train.start import follow_start, with_epochs

RECIPES = Path(__file__).parents[2] / "midsight" / "train" / "recipes"
BILLION = 10**9

# PE paper, section 2.1 and table 26: batch, optimiser, rate, (resolution, billions of samples)
THREE = ((98, 8), (154, 8), (224, 8))
FOUR = ((98, 10), (154, 8), (224, 4), (336, 2))
PUBLISHED = (
    (32_768, "adamw", 5e-4, ((224, 12),)),
    (32_768, "adamw", 5e-4, ((98, 4), (154, 4), (224, 4))),
    (65_536, "adamw", 5e-4, THREE),
    (65_536, "lamb", 2e-3, THREE),
    (65_536, "lamb", 2e-3, FOUR),
    (65_536, "lamb", 2e-3, FOUR),
    (65_536, "lamb", 2e-3, FOUR),
    (65_536, "lamb", 2e-3, FOUR),
    (65_536, "lamb", 2e-3, FOUR),
)


@pytest.mark.parametrize("step", range(1, 10))
def test_switches_give_the_published_ablation(step: int) -> None:
    config = resolve(read_recipe("core_ablation_l14", [f"steps.{name}=false" for name in STEPS[step - 1 :]]))
    batch, optimizer, rate, stages = PUBLISHED[step - 1]
    assert (config.data.batch_size, config.optim.name, config.optim.lr) == (batch, optimizer, rate)
    assert [(s.image_size, s.samples / BILLION) for s in config.stages] == [(size, n) for size, n in stages]
    vision, _ = towers(config, 224)
    assert vision.use_rope2d == (step >= 6)
    assert vision.pool_type == ("attn" if step >= 7 else "tok")
    assert vision.use_cls_token
    assert config.steps.augment == (step >= 8)
    assert config.steps.mask == (step >= 9)


@pytest.mark.parametrize(
    ("name", "steps"), [("core_l14", 443), ("core_g14", 656), ("core_video", 5.4), ("core_distill_s16", 269)]
)
def test_recipes_have_the_published_number_of_steps(name: str, steps: float) -> None:
    assert round(total_steps(resolve(read_recipe(name))) / 1000, 1 if steps < 100 else None) == steps


@pytest.mark.parametrize("path", sorted(RECIPES.glob("core*.toml")), ids=lambda p: p.stem)
def test_every_recipe_begins_with_its_command_and_can_be_built(path: Path) -> None:
    assert path.read_text().startswith(f"# midsight train core {path.stem} --")
    config = read_recipe(path)
    if not (config.model.name or config.model.vision):  # towers from a start
        config = follow_start(replace(config, model=ModelConfig(start="embedded")))
    if not config.stages:  # steps from the data
        assert config.finetune.epochs > 0
        config = with_epochs(config, 1000, 1)
    config = resolve(config)
    for stage in config.stages:
        vision, text = towers(config, stage.image_size)
        assert vision.image_size == stage.image_size
        assert vision.output_dim == text.output_dim


def test_unknown_settings_name_the_nearest(tmp_path: Path) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text("[optim]\nlearning = 1\n[data]\nbatchsize = 4\n")
    with pytest.raises(ConfigError, match=r"r\.toml: optim: there is no setting 'learning'"):
        read_recipe(recipe)
    with pytest.raises(ConfigError, match="did you mean 'batch_size'"):
        read_recipe("core_tiny", ["data.batchsize=4"])
    with pytest.raises(ConfigError, match=r"model.vision: there is no setting 'widht'; did you mean 'width'"):
        towers(read_recipe("core_tiny", ["model.vision.widht=4"]), 32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("optim.lr=fast", "must be float"),
        ("optim.lr", "expected KEY=VALUE"),
        ("mask.ratio=1.5", "between 0 and 1"),
        ("stages=[{image_size=32}]", "samples"),
        ("run.precision=fp8", "fp32 or bf16"),
        ("augment.area=[0, 1]", "augment.area"),
        ("finetune.mode=adapters", "finetune.mode must be full or lora, got 'adapters'"),
        ("finetune.locked=both", "none, image or text"),
        ("finetune.holdout=1", "from 0 to below 1"),
        ("finetune.alpha=2", "best or from 0 to 1"),
        ("finetune.alpha=most", "must be a number or best"),
        ("finetune.epoch=3", "did you mean 'epochs'"),
        ("optim.clip=true", "must be a number"),
    ],
)
def test_values_that_cannot_be_are_refused(change: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_recipe("core_tiny", [change])


def test_overrides() -> None:
    config = read_recipe(
        "core_tiny",
        [
            "optim.lr=1",
            "stages=[{image_size=16, samples=64}]",
            "model.vision.width=96",
            "optim.clip=0",
            "run.device=cpu",
        ],
    )
    assert config.optim.lr == 1.0
    assert config.stages == (Stage(16, 64),)
    assert config.model.vision["width"] == 96
    assert config.model.vision["layers"] == 3
    assert config.optim.clip is None
    assert config.run.device == "cpu"


def test_finetuning_settings() -> None:
    config = read_recipe("core_finetune", ["finetune.alpha=0.5", "finetune.mode=lora", "model.start=embedded"])
    assert config.finetune.alpha == 0.5
    assert resolve(with_epochs(follow_start(config), 100, 1)).optim.lr == config.finetune.lora_lr
    assert read_recipe("core_finetune", ["finetune.alpha=0.5", "finetune.alpha=best"]).finetune.alpha is None
    assert preprocess_of(replace(config, model=ModelConfig(preprocess={"resize": "center_crop"})), 64).image_size == 64
    with pytest.raises(ConfigError, match="did you mean 'resize'"):
        preprocess_of(replace(config, model=ModelConfig(preprocess={"resise": "center_crop"})), 64)


def test_what_is_made_of_the_weights_afterwards_does_not_change_the_digest() -> None:
    base = read_recipe("core_finetune")
    assert base.digest() == read_recipe("core_finetune", ["finetune.alpha=0.5", "finetune.also=x"]).digest()
    for change in ("finetune.mode=lora", "finetune.holdout=0.5", "finetune.locked=text", "data.templates=plain"):
        assert base.digest() != read_recipe("core_finetune", [change]).digest(), change


def test_a_stage_smaller_than_a_batch_is_refused() -> None:
    with pytest.raises(ConfigError, match="fewer than one batch of 131072"):
        resolve(TrainConfig(stages=(Stage(32, 1000),)))
    with pytest.raises(ConfigError, match="at least one"):
        resolve(TrainConfig())


def test_the_digest_names_what_decides_the_weights() -> None:
    base = read_recipe("core_tiny")
    same = read_recipe("core_tiny", ["run.log_every=3", "data.micro_batch=4", "data.workers=9"])
    assert base.digest() == same.digest()
    assert base.digest() != read_recipe("core_tiny", ["seed=1"]).digest()
    assert base.digest() != read_recipe("core_tiny", ["steps.mask=false"]).digest()
