"""Core training from a recipe to a model: contrastive pretraining, finetuning, video finetuning, distillation.

The same loop does all of it: a recipe with `data.frames` trains on clips, one with `loss.teacher` distils, one with
`finetune.epochs` takes its towers from the start and its steps from the data.
"""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from midsight.data.datasets import Dataset, open_dataset
from midsight.data.loader import Batches, batches
from midsight.data.resident import Resident, ResidentBatches, read_resident
from midsight.data.samples import Kind, kind_of
from midsight.data.splits import Split, split
from midsight.data.stream import Order
from midsight.errors import ConfigError
from midsight.evaluate.metrics import classification
from midsight.tasks.zero_shot import build_classifier, resolve_templates
from midsight.threads import keep_freed_memory
from midsight.train.config import TrainConfig, preprocess_of, resolve
from midsight.train.distill import open_teacher
from midsight.train.distributed import World, collect, world
from midsight.train.finetune import Finetuning
from midsight.train.logs import Report
from midsight.train.loop import Evaluate, Outcome, Trainer
from midsight.train.pair import Pair, autocast
from midsight.train.start import follow_start, start_model, with_epochs
from midsight.train.state import latest
from midsight.transforms import get_text_tokenizer
from midsight.transforms.augment import TrainTransform
from midsight.transforms.batched import BatchTransform
from midsight.transforms.image import ImageTransform

_ROWS = 64  # pictures of an evaluation that are encoded at once


def train_core(
    config: TrainConfig,
    folder: str | Path,
    *,
    resume: bool = False,
    report: Report | None = None,
    resident: Resident | None = None,
) -> Outcome:
    """Trains as a recipe says, in the processes that torchrun started, or in this one alone.

    Args:
        config: a recipe as it was read; `data.source` must name the data.
        folder: for checkpoints, logs and, at the end, `model/`.
        resume: go on from the newest checkpoint in the folder.
        report: called with each record of the log, in the first process.
        resident: data in memory, in place of `data.source`.

    Raises:
        ConfigError: a recipe that cannot be.
        InputError: data that cannot be read.
        CheckpointError: weights to start from, or a teacher's, that cannot be had.
        TrainingError, OutputError: as `midsight.train.loop.Trainer.run`.
    """
    if not config.data.source and resident is None:
        raise ConfigError("data.source is empty: name shards, a table of pairs or a folder (--data)")
    if not config.loss.teacher and (config.loss.teacher_texts or config.loss.teacher_features):
        raise ConfigError("loss.teacher_texts and loss.teacher_features need a teacher: name one in loss.teacher")
    with world(config.run.device) as here:
        if here.device.type == "cpu":
            keep_freed_memory()
        config, data = prepare(config, here) if resident is None else (resolve(follow_start(config)), None)
        model = start_model(config)
        context = model.context_length
        teacher = open_teacher(config.loss.teacher, here.device, context) if config.loss.teacher else None
        finish = Finetuning(config, data, Path(folder), here.device) if data and config.finetune.finishes else None
        run = Trainer(
            config,
            model,
            _source(config, context, data, resident, here),
            Path(folder),
            here,
            teacher=teacher,
            evaluate=zero_shot(config, context, here.device) if config.run.evaluate_on else None,
            finish=finish,
            report=report,
        )
        if finish is not None and here.first and latest(Path(folder)) is None:
            figures = finish.begin()
            if report is not None and figures:
                report({"step": 0, **figures})
        return run.run(resume)


def _source(
    config: TrainConfig, context_length: int, data: Split | None, resident: Resident | None, here: World
) -> "DataSource | ResidentSource":
    """What the loop reads: a stream, or tensors kept on the device."""
    if resident is None and config.data.resident and data is not None:
        resident = read_resident(data.train, config.data.resident, config.data.workers)
    if resident is not None:
        return ResidentSource(config, context_length, resident, here)
    assert data is not None
    return DataSource(config, context_length, data.train)


def prepare(config: TrainConfig, here: World) -> tuple[TrainConfig, Split]:
    """The recipe as it will be run, and its data: towers from the start, steps from the data, a part held out.

    Raises:
        As `train_core`.
    """
    if (config.finetune.finishes or config.finetune.epochs) and not config.model.start:
        raise ConfigError("finetuning needs weights to start from: --from embedded, a published name or a path")
    config, dataset = follow_start(config), open_dataset(config.data.source)
    if not (config.finetune.finishes or config.finetune.epochs):
        return resolve(config), Split(dataset, None, 0, (), ())
    kind: Kind = "video" if config.data.frames else "image"
    found = split(dataset, config.finetune.holdout, kind) if here.first else None
    data = next(filter(None, collect(found, here)))
    return resolve(with_epochs(config, data.samples, here.size)), data


class DataSource:
    """The data of a run: any data set that `midsight.data` opens, with the transform of each resolution."""

    def __init__(self, config: TrainConfig, context_length: int, dataset: Dataset) -> None:
        """
        Args:
            config: resolved.
            context_length: of the text tower.
            dataset: to train on.
        """
        self.config, self.dataset = config, dataset
        self.templates = resolve_templates(config.data.templates if dataset.classes else None)
        self.tokenizer = get_text_tokenizer(context_length)

    @property
    def fingerprint(self) -> str:
        return self.dataset.fingerprint

    def open(self, image_size: int, rows: int, here: World, resume: dict[str, Any] | None) -> Batches:
        """See `midsight.train.loop.Source`."""
        config = self.config
        augment = config.augment if config.steps.augment else None
        return batches(
            self.dataset,
            TrainTransform(preprocess_of(config, image_size), augment, config.seed),
            self.tokenizer,
            rows,
            order=Order(config.seed, rank=here.rank, ranks=here.size),
            frames=config.data.frames,
            workers=config.data.workers,
            templates=self.templates,
            resume=resume,
            pin=here.device.type == "cuda",
        )


class ResidentSource:
    """The data of a run, kept on its device."""

    def __init__(self, config: TrainConfig, context_length: int, data: Resident, here: World) -> None:
        self.config, self.data, self.fingerprint = config, data.to(here.device), data.fingerprint
        self.tokenizer = get_text_tokenizer(context_length)

    def open(self, image_size: int, rows: int, here: World, resume: dict[str, Any] | None) -> ResidentBatches:
        """See `midsight.train.loop.Source`."""
        config = self.config
        augment = config.augment if config.steps.augment else None
        transform = BatchTransform(preprocess_of(config, image_size), augment, config.seed)
        order = Order(config.seed, rank=here.rank, ranks=here.size)
        return ResidentBatches(self.data, transform, self.tokenizer, rows, order, resume)


def zero_shot(config: TrainConfig, context_length: int, device: torch.device) -> Evaluate:
    """A periodic evaluation on a folder of classes: top-1, top-5 and mean recall over their names.

    Every process computes all of it, for a sharded model needs them all.

    Raises:
        ConfigError: the folder holds no classes.
        MediaError: a picture of it cannot be read (when it is evaluated).
    """
    root, tokenizer = Path(config.run.evaluate_on), get_text_tokenizer(context_length)
    names = sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    if len(names) < 2:
        raise ConfigError(f"run.evaluate_on: {root} holds {len(names)} classes; expected a folder with one for each")
    classes = [sorted(p for p in (root / name).rglob("*") if kind_of(p.suffix) == "image") for name in names]
    pictures = [path for paths in classes for path in paths]
    targets = torch.tensor([number for number, paths in enumerate(classes) for _ in paths])

    def encode(pair: Pair, media: Tensor | None, texts: Tensor | None) -> Tensor:
        with torch.no_grad(), autocast(device, config.run.precision == "bf16"):
            images, encoded, _ = pair(media, texts)
        return F.normalize((encoded if media is None else images).float(), dim=-1).cpu()

    def evaluate(pair: Pair, image_size: int) -> dict[str, float]:
        transform = ImageTransform(preprocess_of(config, image_size))
        labels = [name.replace("_", " ") for name in names]
        templates = resolve_templates(config.run.templates)
        classifier = build_classifier(lambda t: encode(pair, None, tokenizer(t).to(device)), labels, templates)
        rows = []
        for start in range(0, len(pictures), _ROWS):
            batch = torch.stack([transform(path) for path in pictures[start : start + _ROWS]])
            rows.append(encode(pair, batch.to(device), None))
        found = classification(100 * torch.cat(rows) @ classifier, targets)
        return {f"zero_shot_{key}": value for key, value in found.items()}

    return evaluate
