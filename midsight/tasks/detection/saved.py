"""A detector in a folder of one's own: its weights under the published names, its sizes and its categories.

`model.safetensors` is the weights, `detector.json` everything else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from midsight.checkpoints.reader import named, read_json
from midsight.checkpoints.writer import write_json, write_safetensors
from midsight.configs import PEConfig
from midsight.errors import CheckpointError, ConfigError
from midsight.tasks.detection.config import DETAConfig, MaskRCNNConfig, as_config
from midsight.tasks.detection.deta import DETA
from midsight.tasks.detection.mask_rcnn import MaskRCNN

FORMAT, VERSION = "midsight detector", 1
WEIGHTS, SETTINGS = "model.safetensors", "detector.json"


@dataclass(frozen=True)
class Categories:
    """What a detector's labels mean."""

    ids: tuple[int, ...] = ()  # category id of each label; empty: labels are category ids, or nothing is known
    names: tuple[str, ...] = ()  # by label


@dataclass(frozen=True)
class SavedDetector:
    """What a folder says of the detector in it."""

    vision: PEConfig
    config: MaskRCNNConfig | DETAConfig
    categories: Categories = Categories()
    metadata: Mapping[str, Any] = field(default_factory=dict)


def save_detector(
    folder: str | Path,
    detector: MaskRCNN | DETA,
    categories: Categories = Categories(),  # noqa: B008 (frozen)
    metadata: Mapping[str, Any] | None = None,
) -> Path:
    """Writes a detector that `load_detector(folder)` opens.

    Raises:
        OutputError: it cannot be written; what was there before is intact.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    net = detector.net if isinstance(detector, DETA) else detector.backbone.net
    settings = {
        "format": FORMAT,
        "version": VERSION,
        "kind": "deta" if isinstance(detector, DETA) else "mask_rcnn",
        "vision": asdict(net.config),
        "config": asdict(detector.config),
        "category_ids": list(categories.ids),
        "names": list(categories.names),
        "metadata": dict(metadata or {}),
    }
    write_safetensors(folder / WEIGHTS, detector.published_state_dict())
    write_json(folder / SETTINGS, settings)
    return folder


def read_settings(folder: str | Path) -> SavedDetector:
    """What `detector.json` says.

    Raises:
        CheckpointError: it is missing, not of this kind, or has values that cannot be.
    """
    path = Path(folder) / SETTINGS
    content = read_json(path)
    with named(path):
        if content.get("format") != FORMAT or content.get("version") != VERSION:
            found = f"{content.get('format')!r}, version {content.get('version')!r}"
            raise CheckpointError(f"is of the format {found}, expected {FORMAT!r}, version {VERSION}")
        kinds = {"mask_rcnn": MaskRCNNConfig, "deta": DETAConfig}
        if content.get("kind") not in kinds:
            raise CheckpointError(f"is of the kind {content.get('kind')!r}, expected {' or '.join(kinds)}")
        try:
            vision = as_config(PEConfig, content["vision"])
            config = as_config(kinds[content["kind"]], content["config"])
            categories = Categories(_all(int, content["category_ids"]), _all(str, content["names"]))
        except (ConfigError, KeyError, TypeError) as error:
            raise CheckpointError(f"has settings that cannot be ({type(error).__name__}: {error})") from error
    return SavedDetector(vision, config, categories, dict(content.get("metadata") or {}))


def _all(kind: type, values: Sequence[Any]) -> tuple[Any, ...]:
    if not isinstance(values, list) or not all(type(value) is kind for value in values):
        raise TypeError(f"expected a list of {kind.__name__}, got {str(values)[:60]}")
    return tuple(values)
