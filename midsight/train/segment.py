"""`midsight train segment`: a head for segmentation over a frozen encoder."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from midsight.data.segmentation import LabelConfig, has_segmentation, open_segmentation
from midsight.errors import ConfigError
from midsight.evaluate.metrics import Confusion
from midsight.tasks.heads import HeadConfig, build_head
from midsight.tasks.saved import SavedHead
from midsight.tasks.segmentation import cross_entropy
from midsight.tasks.windows import enlarge
from midsight.train.cache import DenseSet, Samples, stacked
from midsight.train.dense import DenseOutcome, DenseTask
from midsight.train.dense_config import SegmentTrainConfig
from midsight.train.dense_run import run_head
from midsight.train.logs import Report


def train_segment(
    config: SegmentTrainConfig, folder: Path, *, resume: bool = False, report: Report | None = None
) -> DenseOutcome:
    """Trains a head and saves it in `folder`/model, for `midsight.api.load_segmenter`.

    Args:
        config: names the encoder, the data and the number of classes.
        folder: of the run.
        resume: go on from the last checkpoint.
        report: called with each record of the log.

    Raises:
        ConfigError: settings that cannot be, or no number of classes.
        InputError: data of no known layout, or files that do not belong together.
        TrainingError, CheckpointError, OutputError: as `DenseTrainer.run`.
    """
    labels, head = config.labels, config.head
    if labels.classes < 1:
        raise ConfigError("labels.classes is not set: how many classes do the label maps have? (ADE20K: 150)")
    if labels.names and len(labels.names) != labels.classes:
        raise ConfigError(f"labels.names are {len(labels.names)}, but labels.classes is {labels.classes}")
    meaning = LabelConfig(labels.classes, labels.zero_is_void, labels.void)

    def build(width: int, inputs: int, encoder: Mapping[str, object], size: int) -> tuple[nn.Module, SavedHead]:
        shape = HeadConfig(width, labels.classes, head.kind, inputs, head.features, head.dropout)
        return build_head(shape), SavedHead("segmentation", shape, encoder, size, labels.names)

    def open_set(root: str, part: str) -> DenseSet:
        return open_segmentation(root, part, meaning)

    task = DenseTask(cross_entropy, measure, "mIoU", higher=True)
    return run_head(config, folder, open_set, has_segmentation, build, task, resume, report)


@torch.no_grad()
def measure(head: nn.Module, samples: Samples) -> dict[str, float]:
    """mIoU and loss at the size of training; the published figure is measured on whole pictures.

    Raises:
        InputError: no picture can be read.
    """
    confusion: Confusion | None = None
    losses = []
    device = samples.encoder.device
    for index in range(len(samples)):
        sample = samples.get(index)
        if sample is None:
            continue
        maps, target = stacked([sample], lambda tensor: tensor.to(device))
        logits = head(maps)
        losses.append(float(cross_entropy(logits, target)))
        confusion = confusion or Confusion(logits.shape[1])
        large = enlarge(logits.float(), (target.shape[1], target.shape[2]))
        confusion.add(large.argmax(dim=1).cpu().numpy(), target.cpu().numpy())
    figures = Confusion(1).figures() if confusion is None else confusion.figures()
    return figures | {"validation_loss": sum(losses) / len(losses)}
