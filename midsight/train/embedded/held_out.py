"""Furniture that the embedded model has never seen, though other furniture of the same packages trained it.

The icons of all furniture are among the drawings that training samples are made of, drawn by lot. Which ones came up
follows from the seed alone; a model whose icon never did, and whose surfaces are not among the textures that training
crops, has shown the vision tower nothing. Its name is known to the text tower, as all names are.
"""

from collections.abc import Sequence
from pathlib import Path

from midsight.data import packaged
from midsight.data.crops import drawings_shown
from midsight.data.packaged import Picture
from midsight.data.scenes import FurnitureModel, furniture_models
from midsight.data.scenes.layout import stands
from midsight.errors import InputError
from midsight.train.embedded.recipe import Recipe


def unseen_furniture(root: Path, recipe: Recipe) -> list[FurnitureModel]:
    """Of the packages below `root`, what a model of that recipe was not trained on, in catalogue order.

    Raises:
        InputError: a package cannot be had, or everything was seen.
    """
    drawings = packaged.training_drawings(root)
    shown = drawings_shown(drawings, recipe.mixture, recipe.seed, recipe.samples)
    found = unseen(furniture_models(root), drawings, shown, [picture.path for picture in packaged.textures(root)])
    if not found:
        raise InputError(f"{root}: all furniture was among the {recipe.samples} training pictures; nothing is held out")
    return found


def unseen(
    models: Sequence[FurnitureModel], drawings: Sequence[Picture], shown: set[int], textures: Sequence[Path]
) -> list[FurnitureModel]:
    """Models that can stand alone, whose icon is among the drawings that were not shown, and that share no texture.

    Args:
        drawings: all that could have been shown, in the order that `shown` counts in.
        textures: files that were cropped; a model is left out where one lies beside its own file.
    """
    hidden = {drawing.path.resolve() for number, drawing in enumerate(drawings) if number not in shown}
    cropped = {path.parent.resolve() for path in textures}
    return [
        model
        for model in models
        if stands(model)
        and model.icon is not None
        and model.icon.resolve() in hidden
        and model.path.parent.resolve() not in cropped
    ]
