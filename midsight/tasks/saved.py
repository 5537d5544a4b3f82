"""Trained heads in a folder: `model.safetensors`, and `config.json` that says which encoder they belong to."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from midsight.errors import CheckpointError, ConfigError
from midsight.files import StrPath, atomic_write
from midsight.tasks.depth.head import DepthHead, DepthRange
from midsight.tasks.features import DenseEncoder
from midsight.tasks.heads import HeadConfig, build_head

if TYPE_CHECKING:
    from midsight.tasks.detection.config import MaskRCNNConfig  # its package needs torchvision

Task = Literal["segmentation", "depth", "detection"]
T = TypeVar("T")
VERSION = 1
WEIGHTS, CONFIG = "model.safetensors", "config.json"
_COUNTED = "num_batches_tracked"  # BatchNorm's; of no use behind training


@dataclass(frozen=True)
class SavedHead:
    """What a folder holds, without its weights."""

    task: Task
    head: "HeadConfig | MaskRCNNConfig"  # the latter for detection
    encoder: Mapping[str, Any]  # `DenseEncoder.describe`
    image_size: int  # pixels: side of the squares that it was trained on
    classes: tuple[str, ...] = ()  # names, where they are known
    depths: DepthRange | None = None
    trained: Mapping[str, Any] = field(default_factory=dict)  # steps, samples, figures

    @property
    def outputs(self) -> int:
        """Classes, or bins of depth."""
        return self.head.outputs if isinstance(self.head, HeadConfig) else self.head.num_classes

    @property
    def names(self) -> tuple[str, ...]:
        """One for each class, also where it is not known by name."""
        return tuple(self.classes[k] if k < len(self.classes) else f"class {k}" for k in range(self.outputs))

    def build(self) -> nn.Module:
        """The head, with random weights.

        Raises:
            MissingDependencyError: detection, and torchvision is not installed.
        """
        if not isinstance(self.head, HeadConfig):
            from midsight.tasks.detection.mask_rcnn import MaskRCNNHeads
            from midsight.tasks.detection.pyramid import FeaturePyramid

            return MaskRCNNHeads(FeaturePyramid(int(self.encoder["width"]), self.head.channels), self.head)
        return build_head(self.head) if self.task == "segmentation" else DepthHead(self.head, self.depths)


def save_head(
    folder: StrPath, saved: SavedHead, weights: Mapping[str, Tensor], dtype: torch.dtype | None = None
) -> Path:
    """Writes a head; each file whole or not at all, and one file of another run is noticed when it is read.

    Args:
        folder: is made where it is missing.
        weights: the head's state.
        dtype: what weights are kept in; None leaves them as they are.

    Raises:
        OutputError: a file cannot be written.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"format": "midsight-head", "version": VERSION, **asdict(saved)}, indent=2) + "\n"
    kept = {
        key: value.detach().to("cpu", dtype).contiguous()
        for key, value in weights.items()
        if not key.endswith(_COUNTED)
    }
    data = save(kept, metadata={"format": "pt", "config": _digest(text)})
    with atomic_write(target / WEIGHTS) as file:
        file.write(data)
    with atomic_write(target / CONFIG) as file:
        file.write(text.encode())
    return target


def read_head(folder: StrPath) -> SavedHead:
    """What a folder holds.

    Raises:
        CheckpointError: no head, or one of a version or with settings that are not known.
    """
    path = Path(folder) / CONFIG
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}). Expected the folder of a trained head.") from error
    if not isinstance(values, dict) or values.get("format") != "midsight-head" or values.get("version") != VERSION:
        raise CheckpointError(f"{path}: is not a head of version {VERSION}. Expected the folder of a trained head.")
    try:
        depths = None if values["depths"] is None else _made(DepthRange, values["depths"])
        found = {f.name: values[f.name] for f in fields(SavedHead)}
        head = _detection(values["head"]) if values["task"] == "detection" else _made(HeadConfig, values["head"])
        found |= {"head": head, "depths": depths, "classes": tuple(values["classes"])}
        return SavedHead(**found)
    except (KeyError, TypeError, ConfigError) as error:
        raise CheckpointError(f"{path}: a setting is missing or wrong ({error}). Train the head again.") from error


def load_head(folder: StrPath, encoder: DenseEncoder, task: Task) -> tuple[nn.Module, SavedHead]:
    """A head for inference, and what is known of it.

    Args:
        encoder: must compute the very features that the head was trained on.

    Raises:
        CheckpointError: no head, one for another task, for another encoder, or weights that do not fit.
    """
    saved = read_head(folder)
    if saved.task != task:
        raise CheckpointError(f"{folder}: a head for {saved.task}, but one for {task} was asked for")
    _check_encoder(folder, saved, encoder)
    head = load_weights(saved.build(), Path(folder))
    return head.to(encoder.device).eval().requires_grad_(False), saved


def _check_encoder(folder: StrPath, saved: SavedHead, encoder: DenseEncoder) -> None:
    here = encoder.describe()
    for key in ("layers", "norm", "width", "identity"):
        if here[key] != saved.encoder.get(key):
            raise CheckpointError(
                f"{folder}: trained on {_named(saved.encoder)}, but the encoder is {_named(here)}; they differ in "
                f"{key}. Load the encoder that it was trained on, or train a head for this one."
            )


def _named(encoder: Mapping[str, Any]) -> str:
    return (
        f"{encoder.get('name') or 'an encoder'} (layers {encoder.get('layers')}, norm {encoder.get('norm')}, width "
        f"{encoder.get('width')}, identity {str(encoder.get('identity'))[:12]})"
    )


def load_weights(head: nn.Module, folder: Path) -> nn.Module:
    """A folder's weights into the head that its configuration builds.

    Raises:
        CheckpointError: weights that cannot be read, of another configuration, or that do not fit.
    """
    path = folder / WEIGHTS
    try:
        with safe_open(path, "pt") as file:
            written = (file.metadata() or {}).get("config")
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}). Train the head again.") from error
    if written != _digest((folder / CONFIG).read_text(encoding="utf-8")):
        raise CheckpointError(f"{path}: belongs to another config.json than the one beside it. Train the head again.")
    wanted = {key: value.shape for key, value in head.state_dict().items() if not key.endswith(_COUNTED)}
    if wanted != {key: value.shape for key, value in weights.items()}:
        raise CheckpointError(f"{path}: its tensors are not those of the head in {CONFIG}. Train the head again.")
    head.load_state_dict(weights, strict=False)
    return head


def _detection(values: Mapping[str, Any]) -> "MaskRCNNConfig":
    from midsight.tasks.detection.config import MaskRCNNConfig

    return _made(MaskRCNNConfig, values)


def _made(kind: type[T], values: Mapping[str, Any]) -> T:
    return kind(**values)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
