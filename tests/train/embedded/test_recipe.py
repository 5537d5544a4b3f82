"""Recipes: only what differs, and a slip of the pen is named."""

from dataclasses import replace
from pathlib import Path

import pytest

import midsight.train
from midsight.errors import ConfigError
from midsight.train.embedded.recipe import Recipe, read_recipe

SHIPPED = Path(midsight.train.__file__).parent / "recipes/embedded.toml"


def test_a_recipe_holds_only_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text("seed = 4\n[text]\nsteps = 7\n")
    recipe = read_recipe(path)
    assert (recipe.seed, recipe.text.steps) == (4, 7)
    assert recipe.words == Recipe().words
    assert recipe.text.width == Recipe().text.width


@pytest.mark.parametrize(
    ("text", "slip", "nearest"),
    [
        ("sead = 3", "sead", "seed"),
        ("[wrods]", "wrods", "words"),
        ("[text]\nstepps = 7", "stepps", "steps"),
        ("[words]\nlikenes = 0.5", "likenes", "likeness"),
        ("[mixture]\ndrawing = 0.5", "drawing", "drawings"),
        ("[tower]\nlayerscale = 0.5", "layerscale", "layer_scale"),
        ("[head]\nbatches = 5", "batches", "batch"),
    ],
)
def test_a_misspelt_key_names_its_nearest(text: str, slip: str, nearest: str, tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(text + "\n")
    with pytest.raises(ConfigError, match=f"'{slip}'.*'{nearest}'"):
        read_recipe(path)


@pytest.mark.parametrize("text", ["seed = 1.5", "[text]\nsteps = '7'", "head = 3", "vision = 1"])
def test_values_of_another_kind_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(text + "\n")
    with pytest.raises(ConfigError, match=r"r\.toml: "):
        read_recipe(path)


def test_a_broken_or_missing_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    with pytest.raises(ConfigError, match="not a readable recipe"):
        read_recipe(path)
    path.write_text("seed = = 4")
    with pytest.raises(ConfigError, match="not a readable recipe"):
        read_recipe(path)


def test_the_short_recipe_has_fewer_text_steps_and_nothing_else() -> None:
    short, whole = read_recipe(SHIPPED.with_name("embedded_short.toml")), read_recipe(SHIPPED)
    assert short.text.steps < whole.text.steps / 10
    assert replace(short, text=replace(short.text, steps=whole.text.steps)) == whole


def test_the_shipped_recipe_reads_and_names_its_command() -> None:
    assert read_recipe(SHIPPED).samples > 1000
    assert SHIPPED.read_text().startswith("# python -m midsight.train.embedded")
