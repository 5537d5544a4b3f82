"""`midsight train depth`: a head for depth over a frozen encoder."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from midsight.data.depth import NYU_BORDER, DepthFiles, has_depth, open_depth
from midsight.evaluate.metrics import depth_errors, mean_errors
from midsight.evaluate.metrics.depth import DepthProtocol
from midsight.tasks.depth import DepthHead, depth_loss
from midsight.tasks.heads import HeadConfig
from midsight.tasks.saved import SavedHead
from midsight.tasks.windows import enlarge
from midsight.train.cache import DenseSet, Samples, stacked
from midsight.train.dense import DenseOutcome, DenseTask
from midsight.train.dense_config import DepthTrainConfig
from midsight.train.dense_run import run_head
from midsight.train.logs import Report


def train_depth(
    config: DepthTrainConfig, folder: Path, *, resume: bool = False, report: Report | None = None
) -> DenseOutcome:
    """Trains a head and saves it in `folder`/model, for `midsight.api.load_depth_estimator`.

    Args:
        config: names the encoder and the data.
        folder: of the run.
        resume: go on from the last checkpoint.
        report: called with each record of the log.

    Raises:
        ConfigError: settings that cannot be.
        InputError: data of no known layout, or files that do not belong together.
        TrainingError, CheckpointError, OutputError: as `DenseTrainer.run`.
    """
    depth, chosen = config.depth, config.head

    def open_set(root: str, part: str) -> DenseSet:
        crop = NYU_BORDER if depth.nyu_border and part == "training" else None
        return open_depth(root, part, DepthFiles(depth.scale, depth.range.farthest, crop))

    def build(width: int, inputs: int, encoder: Mapping[str, object], size: int) -> tuple[nn.Module, SavedHead]:
        shape = HeadConfig(width, depth.range.bins, chosen.kind, inputs, chosen.features, chosen.dropout)
        return DepthHead(shape, depth.range), SavedHead("depth", shape, encoder, size, depths=depth.range)

    def loss(predicted: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        return depth_loss(predicted, truth, depth.gradient_weight)

    @torch.no_grad()
    def measure(head: nn.Module, samples: Samples) -> dict[str, float]:
        return _measure(head, samples, depth.gradient_weight, DepthProtocol(depth.range.nearest, depth.range.farthest))

    task = DenseTask(loss, measure, "validation_loss", higher=False)
    return run_head(config, folder, open_set, has_depth, build, task, resume, report)


def _measure(head: nn.Module, samples: Samples, weight: float, protocol: DepthProtocol) -> dict[str, float]:
    """Errors and loss at the size of training, without a crop; the published figure is measured on whole pictures."""
    protocol = DepthProtocol(protocol.nearest, protocol.farthest, nyu_crop=False)
    errors = []
    device = samples.encoder.device
    for index in range(len(samples)):
        sample = samples.get(index)
        if sample is None or not bool((sample.target > 0).any()):
            continue
        maps, target = stacked([sample], lambda tensor: tensor.to(device))
        predicted = head(maps)
        large = enlarge(predicted.float(), (target.shape[1], target.shape[2]))[0, 0].cpu().numpy()
        found = depth_errors(large, target[0].cpu().numpy(), protocol)
        errors.append(found | {"validation_loss": float(depth_loss(predicted, target, weight))})
    return mean_errors(errors)
