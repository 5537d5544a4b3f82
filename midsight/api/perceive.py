"""Trained heads that share one pass of a loaded model. Needs torchvision, so it is not imported with `midsight.api`."""

from pathlib import Path

from midsight.api.dense import dense_encoder
from midsight.api.loading import load
from midsight.api.perception import Perception
from midsight.checkpoints.hub import EMBEDDED_SPATIAL
from midsight.errors import CheckpointError
from midsight.files import StrPath
from midsight.tasks.detection.mask_rcnn import MaskRCNNHeads
from midsight.tasks.detection.predict import HeadDetector
from midsight.tasks.perceive import Perceiver
from midsight.tasks.saved import SavedHead, load_head, read_head

HEADS = EMBEDDED_SPATIAL / "heads"  # segment, depth, detect
HEADS_OF = "embedded-spatial"


def load_head_detector(folder: StrPath, model: Perception) -> tuple[HeadDetector, SavedHead]:
    """Heads of detection over a loaded model, and what is known of them.

    Args:
        folder: of heads without a tower, such as the shipped `HEADS / "detect"`.
        model: the encoder that they were trained on.

    Raises:
        CheckpointError: no heads for detection, or for another encoder.
        LayerError: they read a layer that the model does not have.
        MissingDependencyError: torchvision is not installed.
    """
    wanted = read_head(folder).encoder
    encoder = dense_encoder(model, [int(layer) for layer in wanted["layers"]], bool(wanted["norm"]))
    heads, saved = load_head(folder, encoder, "detection")
    assert isinstance(heads, MaskRCNNHeads)  # by its task
    return HeadDetector(encoder, heads), saved


def load_perceiver(folder: StrPath | None = None, model: Perception | None = None) -> Perceiver:
    """All heads of a folder over one pass of their encoder.

    Args:
        folder: holds `segment`, `depth` and `detect`; None: those that ship.
        model: their encoder; None: the embedded PE-Spatial.

    Raises:
        CheckpointError: a head that is missing, for another encoder, or of another layer than the others.
        MissingDependencyError: torchvision is not installed.
    """
    base = HEADS if folder is None else Path(folder)
    detector, saved = load_head_detector(base / "detect", model or load(HEADS_OF))
    encoder = detector.encoder
    for name in ("segment", "depth"):
        if read_head(base / name).encoder.get("layers") != saved.encoder.get("layers"):
            raise CheckpointError(f"{base / name}: reads other layers than {base / 'detect'}; heads share one pass")
    segment, _ = load_head(base / "segment", encoder, "segmentation")
    depth, _ = load_head(base / "depth", encoder, "depth")
    return Perceiver(detector, segment, depth)
