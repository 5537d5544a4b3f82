"""Trained heads that share one pass of a loaded model. Needs torchvision, so it is not imported with `midsight.api`."""

from dataclasses import dataclass
from pathlib import Path

from midsight.api.dense import dense_encoder, head_and_model, identity_of
from midsight.api.loading import Dtype, load
from midsight.api.opened import SHIPPED, Opened
from midsight.api.perception import Perception
from midsight.errors import CheckpointError
from midsight.files import StrPath
from midsight.tasks.detection.mask_rcnn import MaskRCNNHeads
from midsight.tasks.detection.predict import HeadDetector
from midsight.tasks.perceive import Perceived, Perceiver
from midsight.tasks.saved import SavedHead, load_head, read_head

HEADS_OF = "embedded-spatial"


def load_head_detector(folder: StrPath, model: Perception) -> tuple[HeadDetector, SavedHead]:
    """Heads of detection over a loaded model, and what is known of them.

    Args:
        folder: of heads without a tower, such as the shipped `SHIPPED / "detect"`.
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
    base = SHIPPED if folder is None else Path(folder)
    detector, saved = load_head_detector(base / "detect", model or load(HEADS_OF))
    encoder = detector.encoder
    for name in ("segment", "depth"):
        if read_head(base / name).encoder.get("layers") != saved.encoder.get("layers"):
            raise CheckpointError(f"{base / name}: reads other layers than {base / 'detect'}; heads share one pass")
    segment, _ = load_head(base / "segment", encoder, "segmentation")
    depth, _ = load_head(base / "depth", encoder, "depth")
    return Perceiver(detector, segment, depth)


@dataclass(frozen=True)
class OpenedPerceiver(Opened[Perceived]):
    """`names` are those of the detector's labels."""

    classes: tuple[str, ...] = ()  # of the class maps
    farthest: float = 0.0  # metres that the depth head knows


def open_perceiver(
    heads: StrPath | None = None, *, device: str = "auto", dtype: Dtype = "auto", threads: int | None = None
) -> OpenedPerceiver:
    """All heads over one pass: a picture to `Perceived`.

    Args:
        heads: folder that holds `segment`, `depth` and `detect`; None: those that ship.
        device, dtype, threads: of the encoder, as `midsight.load`.

    Raises:
        InputError: the heads' encoder is not known by name.
        CheckpointError, MissingDependencyError: as `load_perceiver`.
    """
    base = SHIPPED if heads is None else Path(heads)
    _, loaded = head_and_model(base / "detect", None, "perceive", device, dtype, None, threads)
    perceiver = load_perceiver(base, loaded)
    detect, segment, depth = (read_head(base / name) for name in ("detect", "segment", "depth"))
    identity = " ".join(identity_of(perceiver.encoder, base / name) for name in ("detect", "segment", "depth"))
    return OpenedPerceiver(
        lambda source: perceiver([source])[0], f"the heads {base} on {loaded.name}", identity, detect.names,
        classes=segment.names, farthest=depth.depths.farthest if depth.depths else 0.0,
    )  # fmt: skip
