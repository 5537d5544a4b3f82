"""Several rows behind one another in one sequence, without seeing each other, and the loss on what is learnt.

Positions count from 0 in each row. transformers tells from them where rows begin and lets each attend to itself alone:
by a mask in `sdpa`, or by lengths in flash-attention. A pack is as long as its rows, nothing is filled up.
"""

import inspect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from midsight.errors import CheckpointError
from midsight.plm.chat import IGNORED
from midsight.plm.rows import LearntRow, tiles_of


@dataclass(frozen=True)
class Pack:
    """Rows in one sequence of L tokens, of which K are predicted."""

    keys: tuple[str, ...]
    input_ids: Tensor  # int64 (L,)
    positions: Tensor  # int64 (L,), from 0 in each row
    predicting: Tensor  # int64 (K,), places whose logits are learnt from
    targets: Tensor  # int64 (K,), the ids behind those places
    tiles: Tensor | None  # float32 (M, 3, S, S)

    def to(self, device: torch.device) -> "Pack":
        """The same on a device."""
        return Pack(
            self.keys,
            self.input_ids.to(device, non_blocking=True),
            self.positions.to(device, non_blocking=True),
            self.predicting.to(device, non_blocking=True),
            self.targets.to(device, non_blocking=True),
            None if self.tiles is None else self.tiles.to(device, non_blocking=True),
        )


def pack(rows: Sequence[LearntRow]) -> Pack:
    """Rows in one sequence; the last token of a row predicts nothing."""
    lengths = [len(row.input_ids) for row in rows]
    labels = [F.pad(row.labels[1:], (0, 1), value=IGNORED) for row in rows]  # of the token behind
    shifted = torch.cat(labels)
    predicting = (shifted != IGNORED).nonzero().flatten()
    return Pack(
        tuple(row.key for row in rows),
        torch.cat([row.input_ids for row in rows]),
        torch.cat([torch.arange(length) for length in lengths]),
        predicting,
        shifted[predicting],
        tiles_of(rows),
    )


def packs(rows: Iterable[LearntRow], length: int) -> Iterator[Pack]:
    """Rows in order, as many in a pack as fit into `length` tokens; a longer row has a pack of its own."""
    waiting: list[LearntRow] = []
    tokens = 0
    for row in rows:
        if waiting and tokens + len(row.input_ids) > length:
            yield pack(waiting)
            waiting, tokens = [], 0
        waiting.append(row)
        tokens += len(row.input_ids)
    if waiting:
        yield pack(waiting)


def check_packable(language_model: nn.Module) -> None:
    """Lets a language model read two short rows in one pack.

    Raises:
        CheckpointError: it takes no positions, or what stands in one row changes what it makes of the next one.
    """
    known = inspect.signature(language_model.forward).parameters
    takes = {"position_ids", "logits_to_keep", "inputs_embeds"} <= known.keys()
    if not takes or not _keeps_apart(language_model):
        raise CheckpointError(
            f"{type(language_model).__name__} is no plain transformer: packed rows would see each other. Use a decoder "
            "such as Llama, Qwen2 or SmolLM2"
        )


@torch.no_grad()
def _keeps_apart(language_model: nn.Module) -> bool:
    table: nn.Embedding = language_model.get_input_embeddings()  # type: ignore[operator]
    short, places = 6, torch.arange(6, 12, device=table.weight.device)
    embeds = table.weight[: 2 * short]
    other = torch.cat((table.weight[short : 2 * short], embeds[short:]))
    positions = torch.arange(short, device=table.weight.device).repeat(2)
    batch = Pack((), places, positions, places, places, None)
    before, after = (packed_logits(language_model, rows, batch) for rows in (embeds, other))
    return torch.allclose(before, after, rtol=1e-3, atol=1e-4)


def packed_logits(language_model: nn.Module, embeds: Tensor, batch: Pack) -> Tensor:
    """Logits (K, vocabulary) at the places that are learnt from; `embeds` is (L, D)."""
    found: Any = language_model(
        inputs_embeds=embeds[None],
        position_ids=batch.positions[None],
        logits_to_keep=batch.predicting,
        use_cache=False,
    )
    logits: Tensor = found.logits[0]
    return logits


def loss_sum(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy, summed over the predicted tokens, in float32; 0 where there are none."""
    return F.cross_entropy(logits.float(), targets, reduction="sum")
