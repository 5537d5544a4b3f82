"""What a run begins with: towers, preprocessing and weights of a start, or random weights."""

import warnings
from dataclasses import asdict, replace

import torch

from midsight import pe
from midsight.checkpoints import open_pretrained
from midsight.configs import find_model
from midsight.errors import ConfigError
from midsight.pe.headless import resample_positions
from midsight.train.config import Stage, TrainConfig, towers

_POSITIONS = "visual.positional_embedding"


class DataWarning(UserWarning):
    """The data set made a run another than the recipe asks for."""


def follow_start(config: TrainConfig) -> TrainConfig:
    """The recipe with the start's towers and preprocessing filled in, where it names no published model.

    Fields that the recipe states itself stay.

    Raises:
        ConfigError: the start has no text tower.
        CheckpointError, UnknownModelError: it cannot be had.
    """
    model = config.model
    if not model.start or model.name:
        return config
    found = open_pretrained(model.start)
    if found.text is None:
        raise ConfigError(
            f"model.start: {model.start} has a vision tower alone, and training pairs needs a text tower; start from a "
            "PE-Core model, such as PE-Core-S16-384, or from embedded"
        )
    preprocess = {key: value for key, value in asdict(found.preprocess).items() if key != "image_size"}
    filled = replace(
        model,
        vision=asdict(found.vision) | {"image_size": found.preprocess.image_size} | model.vision,
        text=asdict(found.text) | model.text,
        preprocess=preprocess | model.preprocess,
    )
    return replace(config, model=filled)


def with_epochs(config: TrainConfig, samples: int, processes: int) -> TrainConfig:
    """The recipe with `finetune.epochs` as a stage, and a batch that the data set can fill.

    Args:
        config: of `follow_start`.
        samples: to train on.

    Raises:
        ConfigError: fewer samples than a batch of one pair for each process needs.

    Warns:
        DataWarning: the batch is smaller than the recipe's.
    """
    if config.stages or not config.finetune.epochs:
        return config
    fits = samples // processes * processes
    if fits < 2:
        raise ConfigError(
            f"data.source: {samples} samples to train on, for {processes} processes; a batch needs at least 2, and one "
            "for each process"
        )
    batch = min(config.data.batch_size, fits)
    if batch < config.data.batch_size:
        warnings.warn(
            f"data.batch_size is {batch} instead of {config.data.batch_size}: there are {samples} samples to train on",
            DataWarning,
            stacklevel=2,
        )
    size = config.model.vision.get("image_size") or find_model(config.model.name).vision.image_size
    stage = Stage(int(size), config.finetune.epochs * samples)
    return replace(config, data=replace(config.data, batch_size=batch), stages=(stage,))


def start_model(config: TrainConfig, stage: int = 0) -> pe.CLIP:
    """The pair to begin with, at a stage's resolution: drawn from the seed, or loaded and resampled.

    Raises:
        ConfigError: the weights to start from are of other towers than the recipe's.
        CheckpointError, UnknownModelError: they cannot be had.
    """
    vision, text = towers(config, config.stages[stage].image_size)
    torch.manual_seed(config.seed)
    model = pe.CLIP(vision, text)
    if config.model.start:
        weights = dict(open_pretrained(config.model.start).state_dict)
        if vision.use_abs_posemb and _POSITIONS in weights:
            weights[_POSITIONS] = resample_positions(weights[_POSITIONS].float(), vision.grid, vision.use_cls_token)
        try:
            model.load_state_dict(weights)
        except RuntimeError as error:
            found = str(error).strip().splitlines()
            raise ConfigError(
                f"model.start: {config.model.start} does not fit the towers of the recipe ({found[-1].strip()}); "
                "set model.name, model.vision and model.text to its own, or leave them out"
            ) from error
    return model
