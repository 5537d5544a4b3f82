"""What training of both heads does around the loop: open encoder and data, run, save the head."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import nn

from midsight.api import dense_encoder, load
from midsight.errors import ConfigError
from midsight.tasks.features import DenseEncoder, fitting
from midsight.tasks.saved import SavedHead, save_head
from midsight.train.cache import GIB, DenseSet, Samples
from midsight.train.dense import DenseOutcome, DenseTask, DenseTrainer
from midsight.train.dense_config import DenseConfig
from midsight.train.logs import Report
from midsight.train.revision import revision

OpenSet = Callable[[str, str], DenseSet]  # folder, "training" or "validation"
HasSet = Callable[[str, str], bool]
Build = Callable[[int, int, Mapping[str, object], int], tuple[nn.Module, SavedHead]]
"""Width, number of maps, the encoder's description, side of the pictures -> a head and what is saved of it."""


def run_head(
    config: DenseConfig,
    folder: Path,
    open_set: OpenSet,
    has_set: HasSet,
    build: Build,
    task: DenseTask,
    resume: bool = False,
    report: Report | None = None,
) -> DenseOutcome:
    """Opens everything, trains, and saves the head where the run is finished; errors as `train_segment`."""
    if not config.encoder.name or not config.data.source:
        raise ConfigError("encoder.name and data.source must be set: the frozen encoder, and the folder of pictures")
    training = open_set(config.data.source, "training")
    validation = _validation(config, open_set, has_set)
    model = load(config.encoder.name, config.run.device)
    encoder = dense_encoder(model, config.encoder.layers, config.encoder.norm)
    size = fitting(config.data.image_size or model.config.image_size, encoder.patch_size)
    sets = [_samples(found, encoder, size, config, folder) for found in (training, validation) if found is not None]
    torch.manual_seed(config.seed)
    head, saved = build(encoder.width, len(encoder.layers), encoder.describe(), size)
    trainer = DenseTrainer(config, head, task, sets[0], sets[1] if len(sets) > 1 else None, folder, report)
    outcome = trainer.run(resume)
    if not outcome.finished:
        return outcome
    trained = {"steps": outcome.step, "samples": len(sets[0]), "figures": dict(outcome.figures)}
    trained |= {"seed": config.seed, "recipe": asdict(config), "revision": revision()}
    target = save_head(folder / "model", replace(saved, trained=trained), trainer.weights)
    return replace(outcome, model=target)


def _validation(config: DenseConfig, open_set: OpenSet, has_set: HasSet) -> DenseSet | None:
    """The set to measure on: that of the settings, else the one beside the training set, if there is one."""
    where = config.data.validation or config.data.source
    if config.data.validation or config.keep_best or has_set(where, "validation"):
        return open_set(where, "validation")
    return None


def _samples(found: DenseSet, encoder: DenseEncoder, size: int, config: DenseConfig, folder: Path) -> Samples:
    kept = Path(config.data.cache) if config.data.cache else folder / "features"
    return Samples(found, encoder, size, kept, int(config.data.cache_gib * GIB), config.data.target_size)
