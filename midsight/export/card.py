"""What an exported file says about itself: stored inside the file as JSON under `midsight`."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from midsight.configs import PreprocessConfig
from midsight.errors import CheckpointError, InputError, MissingDependencyError
from midsight.export.config import SUFFIXES

KEY = "midsight"
VERSION = 1  # of the fields below


@dataclass(frozen=True)
class Port:
    """One input or output: sizes that are free have a name instead of a number."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Card:
    """Everything that is needed to use an exported tower.

    Attributes:
        model: name of the model.
        identity: hash of weights, preprocessing and layer; equal ones may be compared, also with midsight's own.
        tower: which one.
        gives: "embedding" has length 1, "tokens" and "maps" are not normalised.
        layer: the block that the output comes from, 0-based; None for the whole tower.
        patch_size: pixels.
        class_token: whether tokens start with one.
        preprocess: what happens to pixels; None for texts.
        context_length: token ids of a text; None for pictures.
        logit_scale: what similarities are multiplied with before the softmax over labels; None without a text tower.
        input, output: names, dtypes, shapes.
    """

    model: str
    identity: str
    tower: Literal["image", "text"]
    gives: Literal["embedding", "tokens", "maps"]
    layer: int | None
    patch_size: int
    class_token: bool
    preprocess: PreprocessConfig | None
    context_length: int | None
    logit_scale: float | None
    input: Port
    output: Port

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
            fields: dict[str, Any] = json.loads(text)
            version = fields.pop("version")
            if version != VERSION:
                raise CheckpointError(f"the card has version {version}, this midsight reads {VERSION}; update midsight")
            for name in ("input", "output"):
                port = fields[name]
                fields[name] = Port(port["name"], port["dtype"], tuple(port["shape"]))
            if fields["preprocess"] is not None:
                fields["preprocess"] = PreprocessConfig(**fields["preprocess"])
            return cls(**fields)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise CheckpointError(f"the card cannot be read ({type(error).__name__}: {error})") from error


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

    extra = {f"{KEY}.json": ""}
    torch.export.load(path, extra_files=extra)
    return extra[f"{KEY}.json"]
