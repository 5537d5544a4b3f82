"""Make, measure and describe the heads that ship for the embedded PE-Spatial.

python -m midsight.train.embedded_spatial.heads --out midsight/assets/embedded_spatial/heads   all of it
python -m midsight.train.embedded_spatial.heads --out FOLDER --measure         the table of what is there

Every finished part stays in the work folder; the same command after an interruption goes on.
"""

import logging
import sys
from pathlib import Path

import torch

from midsight.api import dense_encoder, load
from midsight.api.perceive import HEADS_OF
from midsight.checkpoints import read_tensors
from midsight.data.scenes.folders import write_folders
from midsight.data.scenes.write import packaged_stock
from midsight.errors import CheckpointError, MidsightError
from midsight.tasks.detection.config import MaskRCNNConfig
from midsight.tasks.detection.saved import WEIGHTS, read_settings
from midsight.tasks.saved import SavedHead, load_weights, read_head, save_head
from midsight.train.config import read_settings as read_recipe
from midsight.train.dense import DenseOutcome
from midsight.train.dense_config import DepthTrainConfig, SegmentTrainConfig
from midsight.train.depth import train_depth
from midsight.train.detect import train_detector
from midsight.train.detect_config import read_detect_recipe
from midsight.train.embedded_spatial import command, heads_card, scenes
from midsight.train.loop import Outcome
from midsight.train.segment import train_segment

NAMES = ("segment", "depth", "detect")
SPLITS = {"heads": "training", "heads_validation": "validation", "heads_test": "test", "heads_unseen": "unseen"}
_TOWER = "backbone.net."
log = logging.getLogger("midsight.train.embedded_spatial.heads")


def main() -> int:
    """Exit code: 0, 1 where something cannot be had or written, 130 where it was stopped."""
    options = command.parser(
        "midsight.train.embedded_spatial.heads", __doc__, "folder of the three heads and their card"
    )
    given = options.parse_args()
    command.prepare()
    try:
        root = pictures(given.work, given.packages)
        if not given.measure:
            for outcome in (train_small(name, given.work, root) for name in NAMES):
                if not outcome.finished:
                    log.info("stopped after step %d; the same command goes on", outcome.step)
                    return 130
            for name in NAMES:
                ship(given.work / name / "model", given.out / name)
        table = heads_card.measure(given.out, root, log.info)
        sys.stdout.write(table + "\n")
        heads_card.write(given.out, scenes=table)
    except MidsightError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def pictures(work: Path, packages: Path) -> Path:
    """The scenes as folders, rendered and written as far as they are not there."""
    root = work / "dense"
    size = load(HEADS_OF, "cpu").config.image_size
    scenes.build(work, packaged_stock(packages), size, log.info, scenes.HEAD_SETS)
    for source, split in SPLITS.items():
        if not (root / f"{split}.json").exists():  # written last
            log.info("%s: %d pictures in folders", split, write_folders(work / source, root, split))
    return root


def train_small(name: str, work: Path, root: Path) -> DenseOutcome | Outcome:
    """One head by its recipe, in `work/NAME`; a finished or stopped run is taken up."""

    def report(record: object) -> None:
        log.info("%s %s", name, record)

    if name == "detect":
        data = [f"data.images={root}", f"data.annotations={root / 'training.json'}"]
        return train_detector(read_detect_recipe("detect_scenes", data), work / name, resume=True, report=report)
    settings = [f"data.source={root}", f"data.cache={work / 'features'}"]
    if name == "segment":
        segment = read_recipe(SegmentTrainConfig(), "segment_scenes", settings)
        return train_segment(segment, work / name, resume=True, report=report)
    depth = read_recipe(DepthTrainConfig(), "depth_scenes", settings)
    return train_depth(depth, work / name, resume=True, report=report)


def ship(model: Path, out: Path) -> None:
    """A run's head in half precision as `out`; of a detector without the tower, which is the encoder itself."""
    if (model / "detector.json").exists():
        saved, weights = detector_head(model)
    else:
        saved = read_head(model)
        weights = load_weights(saved.build(), model).state_dict()
    save_head(out, saved, weights, torch.float16)


def detector_head(model: Path) -> tuple[SavedHead, dict[str, torch.Tensor]]:
    """A detector on a frozen tower as a head of the plain encoder.

    Raises:
        CheckpointError: its tower attends within windows, or is not the encoder's.
    """
    found, tensors = read_settings(model), read_tensors(model / WEIGHTS)
    config, encoder = found.config, dense_encoder(load(HEADS_OF, "cpu"))
    own = encoder.tower.state_dict()
    same = all(torch.equal(tensors[_TOWER + k].reshape(own[k].shape), own[k]) for k in own if _TOWER + k in tensors)
    if not isinstance(config, MaskRCNNConfig) or len(config.global_blocks) != found.vision.layers or not same:
        raise CheckpointError(f"{model}: not a Mask R-CNN on the frozen tower of {HEADS_OF} with global attention")
    weights = {k: v for k, v in tensors.items() if not k.startswith(_TOWER)}
    saved = SavedHead(
        "detection", config, encoder.describe(), config.image_size, found.categories.names,
        trained=found.metadata,
    )  # fmt: skip
    return saved, weights


if __name__ == "__main__":
    sys.exit(main())
