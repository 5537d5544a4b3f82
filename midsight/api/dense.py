"""A loaded model as the encoder under a dense task."""

from collections.abc import Sequence

from midsight.api.perception import Perception
from midsight.tasks.features import DenseEncoder


def dense_encoder(model: Perception, layers: Sequence[int] = (-1,), norm: bool = False) -> DenseEncoder:
    """The vision tower of a loaded model, read after some of its blocks.

    Args:
        model: what `midsight.load` gave.
        layers: block indices, 0-based, negative from the end.
        norm: apply the tower's final norm to each map.

    Raises:
        LayerError: a layer that the tower does not have.
    """
    return DenseEncoder(model._ready_tower, model.preprocess, layers, norm, model.name, model._settle)
