"""Average precision of detections, by COCO's own evaluation or its faster twin; LVIS's federated one by the twin.

Sources: pycocotools; faster-coco-eval; the LVIS paper (arXiv 1908.03195), section 2.3.
"""

import contextlib
import io
import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from midsight.errors import InputError, MissingDependencyError
from midsight.files import StrPath

Kind = Literal["bbox", "segm"]
Engine = Literal["faster", "pycocotools"]
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
LVIS_METRICS = {
    "AP": "AP_all", "AP50": "AP_50", "AP75": "AP_75", "APs": "AP_small", "APm": "AP_medium", "APl": "AP_large",
    "APr": "APr", "APc": "APc", "APf": "APf", "AR300": "AR_all",
}  # fmt: skip
LVIS_DETECTIONS = 300  # of an image


def coco_metrics(
    annotations: StrPath,
    results: Sequence[Mapping[str, Any]],
    kind: Kind = "bbox",
    *,
    engine: Engine = "faster",
    federated: bool = False,
) -> dict[str, float]:
    """COCO's twelve figures, or LVIS's.

    Args:
        annotations: COCO's JSON, or LVIS's.
        results: as `midsight.tasks.detection.formats.to_coco` writes them.
        kind: boxes, or masks.
        engine: faster-coco-eval or pycocotools; they agree.
        federated: LVIS: only classes that an image was searched for count there, 300 detections an image, and APr, APc
            and APf for rare, common and frequent classes. By faster-coco-eval alone.

    Returns:
        Shares by name: AP, AP50, AP75, AP and AR by size (s, m, l), AR1, AR10, AR100; nan where nothing of the kind
        is in the data.

    Raises:
        InputError: annotations that cannot be read, or a result for an image that they do not list.
        MissingDependencyError: the engine is not installed.
    """
    truth = _truth(Path(annotations))
    images = {image["id"] for image in truth["images"]}
    strange = [result["image_id"] for result in results if result["image_id"] not in images]
    if strange:
        raise InputError(f"{annotations}: does not list image {strange[0]}, for which there are results")
    found = [dict(result) for result in results]  # both engines write into them
    if federated and engine != "faster":
        raise InputError("federated evaluation is there with engine='faster' only")
    if federated:
        return _federated(truth, found, kind)
    if engine == "pycocotools":
        values = _by_pycocotools(truth, found, kind)
    else:
        values = _run_faster(truth, found, kind, federated=False).stats[: len(METRICS)]
    return {name: _number(value) for name, value in zip(METRICS, values, strict=True)}


def coco_interval(
    annotations: StrPath,
    results: Sequence[Mapping[str, Any]],
    kind: Kind = "bbox",
    metric: str = "AP50",
    draws: int = 50,
    seed: int = 0,
) -> tuple[float, float, float]:
    """A figure with its 95 % interval over pictures, by faster-coco-eval.

    The spread is that of so many draws of pictures with replacement; the interval is 1.96 times it on both sides, since
    a draw takes seconds and percentiles would want a thousand.

    Returns:
        Value, low, high: shares.

    Raises:
        As `coco_metrics`.
    """
    value = coco_metrics(annotations, results, kind)[metric]
    truth, dice = _truth(Path(annotations)), np.random.default_rng(seed)
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    known: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for result in results:
        found[result["image_id"]].append(dict(result))
    for entry in truth["annotations"]:
        known[entry["image_id"]].append(entry)
    values = []
    for _ in range(draws):
        chosen = dice.integers(len(truth["images"]), size=len(truth["images"]))
        drawn = _drawn(truth, known, found, [truth["images"][k] for k in chosen])
        stats = _run_faster(*drawn, kind, federated=False).stats[: len(METRICS)]
        values.append(stats[METRICS.index(metric)])
    spread = 1.96 * float(np.std(values, ddof=1))
    return value, value - spread, value + spread


def _drawn(
    truth: Mapping[str, Any],
    known: Mapping[int, list[dict[str, Any]]],
    found: Mapping[int, list[dict[str, Any]]],
    pictures: Sequence[Mapping[str, Any]],
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Annotations and results of pictures, some of which come more than once, under new ids."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for number, picture in enumerate(pictures, start=1):
        images.append(dict(picture) | {"id": number})
        for entry in known.get(picture["id"], ()):
            annotations.append(entry | {"id": len(annotations) + 1, "image_id": number})
        results.extend(result | {"image_id": number} for result in found.get(picture["id"], ()))
    return dict(truth) | {"images": images, "annotations": annotations}, results


def _truth(path: Path) -> dict[str, Any]:
    """The annotations, with what a hand-written file may lack and the engines need."""
    try:
        content = json.loads(path.read_bytes())
        for entry in content["annotations"]:
            entry.setdefault("iscrowd", 0)
            entry.setdefault("area", entry["bbox"][2] * entry["bbox"][3])
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise InputError(f"{path}: not readable as COCO's annotations ({type(error).__name__}: {error})") from error
    return dict(content)


def _by_pycocotools(truth: dict[str, Any], found: list[dict[str, Any]], kind: Kind) -> Sequence[float]:
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise MissingDependencyError("evaluation needs pycocotools: pip install 'midsight[dense]'") from error
    with contextlib.redirect_stdout(io.StringIO()):  # it prints as it goes
        known = COCO()
        known.dataset = truth
        known.createIndex()
        given = known.loadRes(found) if found else COCO()
        run = COCOeval(known, given, kind)
        run.evaluate()
        run.accumulate()
        run.summarize()
    return list(run.stats)


def _run_faster(truth: dict[str, Any], found: list[dict[str, Any]], kind: Kind, federated: bool) -> Any:
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError as error:
        raise MissingDependencyError("evaluation needs faster-coco-eval: pip install 'midsight[dense]'") from error
    known = COCO(truth)
    run = COCOeval_faster(known, known.loadRes(found), kind, lvis_style=federated)
    if federated:
        run.params.maxDets = [LVIS_DETECTIONS]
    run.evaluate()
    run.accumulate()
    run.summarize()
    return run


def _federated(truth: dict[str, Any], found: list[dict[str, Any]], kind: Kind) -> dict[str, float]:
    lacking = [image["id"] for image in truth["images"] if "neg_category_ids" not in image]
    if lacking:
        raise InputError(f"image {lacking[0]} has no neg_category_ids: these are not LVIS's annotations")
    values = _run_faster(truth, found, kind, federated=True).stats_as_dict
    return {name: _number(values[theirs]) for name, theirs in LVIS_METRICS.items()}


def _number(value: float) -> float:
    """The engines say -1 where there is nothing to measure."""
    return math.nan if value == -1 else float(value)
