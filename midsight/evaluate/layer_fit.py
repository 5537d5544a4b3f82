"""Training and measuring one kind of probe on all layers: as many layers together as memory allows."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from midsight.api import Perception
from midsight.evaluate.layer_features import Report
from midsight.evaluate.layer_store import TokenStore
from midsight.evaluate.probes import ProbeConfig, fit, standard_of

Statistics = npt.NDArray[np.float64]  # (L, N, F) of N pictures; a figure follows from their mean
_WORKING = {"cpu": 1 << 30}  # bytes that probes and their batches may take
_WORKING_ELSEWHERE = 8 << 30


@dataclass(frozen=True)
class Plan:
    """What one task does with tokens. `l` layers, B pictures, T tokens of W channels; K outputs."""

    make: Callable[[int], nn.Module]  # l -> a probe
    apply: Callable[[nn.Module, Tensor], Tensor]  # probe, standardised tokens (l, B, T, W) -> outputs (l, B, ...)
    loss: Callable[[Tensor, list[int]], Tensor]  # outputs, the pictures -> (l,)
    score: Callable[[Tensor, list[int]], Tensor]  # outputs, the pictures -> statistics (l, B, F)
    outputs: int  # numbers for each token, or for each picture where `apply` pools; for the memory that is needed
    parameters: int  # of one layer; for the same


def measured_probes(
    store: TokenStore,
    plan: Plan,
    training: list[int],
    measured: list[int],
    config: ProbeConfig,
    model: Perception,
    report: Report,
) -> Statistics:
    """Trains a probe for every layer and measures it: statistics of the measured pictures, (L, N, F)."""
    layers, tokens, width = store.shape.layers, store.shape.tokens, store.shape.width
    numbers = 3 * config.batch_size * tokens * (width + plan.outputs)
    found = []
    parts = list(groups(layers, 4 * numbers + 16 * plan.parameters, model.device))
    for number, part in enumerate(parts):

        def told(done: int, of: int, before: int = number) -> None:
            report("probes", before * of + done, len(parts) * of)

        model._settle()  # threads: the CPUs that are free now
        found.append(_one_group(store, part, plan, training, measured, config, model.device, told))
    return np.concatenate(found)


def _one_group(
    store: TokenStore,
    part: slice,
    plan: Plan,
    training: list[int],
    measured: list[int],
    config: ProbeConfig,
    device: torch.device,
    told: Callable[[int, int], None],
) -> Statistics:
    def batch(pictures: list[int]) -> Tensor:
        return store.tokens(pictures, part).to(device)  # l, B, T, W

    size = config.batch_size
    norm = standard_of(batch(training[k : k + size]) for k in range(0, len(training), size))
    probe = plan.make(part.stop - part.start).to(device)

    def outputs(pictures: list[int]) -> Tensor:
        return plan.apply(probe, norm(batch(pictures)))

    fit(probe, lambda pictures: plan.loss(outputs(pictures), pictures), training, config, told)
    with torch.no_grad():
        chunks = [measured[k : k + size] for k in range(0, len(measured), size)]
        scores = [plan.score(outputs(chunk), chunk).double().cpu() for chunk in chunks]
    return torch.cat(scores, dim=1).numpy()


def groups(layers: int, bytes_of_layer: int, device: torch.device) -> Iterator[slice]:
    """All layers, in stretches of one size that fit into memory."""
    working = _WORKING.get(device.type, _WORKING_ELSEWHERE)
    pieces = min(layers, -(-layers * bytes_of_layer // working))
    ends = [layers * k // max(1, pieces) for k in range(max(1, pieces) + 1)]
    return (slice(a, b) for a, b in zip(ends, ends[1:], strict=False))
