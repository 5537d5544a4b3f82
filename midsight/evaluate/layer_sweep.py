"""Which layer is best for one's own data: every block of a frozen encoder measured from one pass over it.

Source: PE paper, section 3 and B.2 (layer-wise analysis): frozen backbones, every task swept over the layers. What is
not published of its probes is written where it is chosen: `probes`, `layer_classes`, `layer_dense`.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from midsight.api import Perception
from midsight.errors import ConfigError
from midsight.evaluate.layer_classes import measure_attention, measure_knn, measure_linear, measure_retrieval
from midsight.evaluate.layer_dense import measure_depth, measure_segmentation
from midsight.evaluate.layer_features import Report, no_report
from midsight.evaluate.layer_language import measure_language
from midsight.evaluate.layer_tracking import measure_tracking
from midsight.evaluate.layer_types import LayerFigure, Measured, Sweep, SweepConfig
from midsight.evaluate.metrics.bootstrap import bootstrap
from midsight.files import StrPath

FEATURES = "features"  # folder within the one for results
_MEASURES: Mapping[str, Callable[[Perception, Path, SweepConfig, Path | None, Report], Measured]] = {
    "knn": measure_knn,
    "linear": measure_linear,
    "attention": measure_attention,
    "segmentation": measure_segmentation,
    "depth": measure_depth,
    "tracking": measure_tracking,
    "retrieval": measure_retrieval,
    "lang": measure_language,
}


def sweep_layers(
    model: Perception,
    data: StrPath,
    config: SweepConfig,
    folder: StrPath | None = None,
    report: Report = no_report,
) -> Sweep:
    """Scores of every layer on a user's own data.

    Args:
        model: what `midsight.load` gave, at the size of input that is wanted; a whole model or a tower alone.
        data: in a layout of the task's, see `layer_data`; for tracking, a folder in the layout of DAVIS;
            for lang, rows of questions and answers.
        config: the task, and what else is to be set.
        folder: where features go that are beyond the memory limit; a sweep that was stopped goes on from them.
        report: called with what is being done ("features", "probes", "tracking"), how much is done, and of how much.

    Returns:
        Validation scores with 95 % intervals (1,000 draws of the measured pictures, the same for all layers).

    Raises:
        ConfigError: the model was loaded with `layer=`, or settings that cannot be.
        InputError: data that the task cannot use; the message says what was found and expected.
        LayerError: a layer that the tower does not have.
        MediaError: a frame of a video that cannot be read; single pictures that cannot be read are left out instead.
        TrainingError: a probe's loss that is no number.
        OutputError: features that cannot be kept in `folder`.
    """
    if model.layer is not None:
        raise ConfigError(f"{model.name} was loaded with layer={model.layer}; load it whole to compare its layers")
    indices = config.indices(model)
    where = None if folder is None else Path(folder) / FEATURES
    found = _MEASURES[config.task](model, Path(data), config, where, report)
    values, low, high = bootstrap(found.statistics, found.figure, seed=config.seed)
    figures = tuple(
        LayerFigure(layer, float(values[row]), float(low[row]), float(high[row])) for row, layer in enumerate(indices)
    )
    return Sweep(
        config.task,
        model.name,
        found.metric,
        found.higher,
        model.tower.layers,
        figures,
        found.training,
        found.units,
        found.unit,
        found.left_out,
        found.pairs,
        found.also,
    )
