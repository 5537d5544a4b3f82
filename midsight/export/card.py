"""What an exported file says about itself: stored inside the file as JSON under `midsight`."""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from midsight.configs import PreprocessConfig
from midsight.errors import CheckpointError, InputError, MissingDependencyError
from midsight.export.config import SUFFIXES

Gives = Literal["embedding", "tokens", "maps", "logits", "depth", "detections"]

KEY = "midsight"
VERSION = 1  # of the fields below


@dataclass(frozen=True)
class Port:
    """One input or output: sizes that are free have a name instead of a number."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class HeadCard:
    """What a file says about the head, or the whole detector, in it.

    Attributes:
        name: of what was exported.
        task: what it does.
        kind: "linear", "bn_linear" or "dpt"; for detection "mask_rcnn" or "deta".
        identity: sha256 of the file that its weights came from.
        layers: blocks that it reads, 0-based; empty for detectors with a tower of their own.
        norm: whether the tower's final norm is applied to what it reads.
        classes: name of each label: of each channel of logits, or by the labels of detections; "" where one is not
            used.
        category_ids: id of each label in the annotations, as `midsight detect` writes them; -1 where one is not used.
        nearest, farthest: metres that depth lies between.
        fit: how a picture gets into the input. "squash": resized to height and width. "pad": resized so that the longer
            side is `longest`, put into the top left corner, zeros at the right and at the bottom (normalised pixels).
        longest: pixels; None for "squash".
        score_threshold: least score of detections.
    """

    name: str
    task: Literal["segmentation", "depth", "detection"]
    kind: str
    identity: str
    layers: tuple[int, ...] = ()
    norm: bool = False
    classes: tuple[str, ...] = ()
    category_ids: tuple[int, ...] = ()
    nearest: float | None = None
    farthest: float | None = None
    fit: Literal["squash", "pad"] = "squash"
    longest: int | None = None
    score_threshold: float | None = None


@dataclass(frozen=True)
class Card:
    """Everything that is needed to use an exported tower.

    Attributes:
        model: name of the model; with a head, of its encoder.
        identity: hash of weights, preprocessing and layer; equal ones may be compared, also with midsight's own. With a
            head, the identity of its encoder as the head's own `config.json` has it; of a detector with a tower of its
            own, the same as `head.identity`.
        tower: which one.
        gives: "embedding" has length 1, "tokens" and "maps" are not normalised; "logits" of classes, "depth" in metres
            and "detections" come from a head.
        layer: the block that the output comes from, 0-based; None for the whole tower, and with a head.
        patch_size: pixels.
        class_token: whether tokens start with one.
        preprocess: what happens to pixels; None for texts.
        context_length: token ids of a text; None for pictures.
        logit_scale: what similarities are multiplied with before the softmax over labels; None without a text tower.
        input, output: names, dtypes, shapes.
        others: outputs beside the first.
        head: of files with a head.
    """

    model: str
    identity: str
    tower: Literal["image", "text"]
    gives: Gives
    layer: int | None
    patch_size: int
    class_token: bool
    preprocess: PreprocessConfig | None
    context_length: int | None
    logit_scale: float | None
    input: Port
    output: Port
    others: tuple[Port, ...] = ()
    head: HeadCard | None = None

    @property
    def outputs(self) -> tuple[Port, ...]:
        """All of them, in order."""
        return self.output, *self.others

    @property
    def stem(self) -> str:
        """Name of the file, without its ending."""
        return self.head.task if self.head else self.tower

    @property
    def what(self) -> str:
        """What the file holds, for people."""
        if self.head is None:
            return f"the {self.tower} tower of {self.model}"
        if not self.head.layers:
            return f"the detector {self.head.name}"
        return f"the {self.head.task} head {self.head.name} on {self.model}"

    def to_json(self) -> str:
        """The card as it is stored."""
        return json.dumps({"version": VERSION} | asdict(self), ensure_ascii=True)

    @classmethod
    def from_json(cls, text: str) -> "Card":
        """The card that was stored.

        Raises:
            CheckpointError: not a card, or of a later version.
        """
        try:
            found: dict[str, Any] = json.loads(text)
            version = found.pop("version")
            if version != VERSION:
                raise CheckpointError(f"the card has version {version}, this midsight reads {VERSION}; update midsight")
            for name in ("input", "output"):
                found[name] = _port(found[name])
            found["others"] = tuple(_port(port) for port in found.get("others", ()))
            if found["preprocess"] is not None:
                found["preprocess"] = PreprocessConfig(**found["preprocess"])
            if found.get("head") is not None:
                found["head"] = HeadCard(**{key: _frozen(value) for key, value in found["head"].items()})
            return cls(**found)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise CheckpointError(f"the card cannot be read ({type(error).__name__}: {error})") from error


def _port(values: dict[str, Any]) -> Port:
    return Port(values["name"], values["dtype"], tuple(values["shape"]))


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def read_card(path: str | Path) -> Card:
    """The card inside an exported file (.onnx, .xml, .pt2).

    Raises:
        InputError: no such file, or an ending that names no format.
        CheckpointError: a file that `midsight export` did not write.
        MissingDependencyError: the package that reads the format is not installed.
    """
    path = Path(path)
    read = {".onnx": _from_onnx, ".xml": _from_openvino, ".pt2": _from_pt2}.get(path.suffix.lower())
    if read is None:
        raise InputError(f"{path}: the ending tells the format; expected {', '.join(SUFFIXES.values())}")
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        text = read(path)
    except ImportError as error:
        raise missing(error) from error
    except Exception as error:  # each program has errors of its own for files that are none of its
        raise CheckpointError(f"{path}: cannot be read ({gist(error)}); export it again") from error
    if not text:
        raise CheckpointError(f"{path}: has no card of midsight's; expected a file that `midsight export` wrote")
    try:
        return Card.from_json(text)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def missing(error: ImportError) -> MissingDependencyError:
    """The error that names the extra."""
    return MissingDependencyError(f"exports need {error.name}: pip install 'midsight[export]'")


def gist(error: BaseException) -> str:
    """The first lines of an error, as one; other programs start with where in their code it was."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:3])[:300] or type(error).__name__


def _from_onnx(path: Path) -> str:
    import onnx

    found = {entry.key: entry.value for entry in onnx.load(path, load_external_data=False).metadata_props}
    return str(found.get(KEY, ""))


def _from_openvino(path: Path) -> str:
    import openvino

    model = openvino.Core().read_model(path)
    return str(model.get_rt_info([KEY]).astype(str)) if model.has_rt_info([KEY]) else ""


def _from_pt2(path: Path) -> str:
    import torch

    with suppress(ImportError):  # its operators are in the programs of detectors
        import torchvision  # noqa: F401

    extra = {f"{KEY}.json": ""}
    torch.export.load(path, extra_files=extra)
    return extra[f"{KEY}.json"]
