"""How likely a language model finds each of many answers: all of them in one pass over a tree of their tokens."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from midsight.plm.model import PLM

MAX_TOKENS = 16  # of an answer that are scored; the beginning of a sentence tells it from the others
_AT_ONCE = 256  # rows of logits


@dataclass
class _Tree:
    """Tokens that answers share are one node: id, parent and depth of each."""

    ids: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)

    def add(self, tokens: Sequence[int], known: dict[tuple[int, int], int]) -> list[int]:
        """The path of an answer."""
        parent, path = -1, []
        for token in tokens:
            node = known.setdefault((parent, token), len(self.ids))
            if node == len(self.ids):
                self.ids.append(token)
                self.parents.append(parent)
                self.depths.append(0 if parent < 0 else self.depths[parent] + 1)
            path.append(node)
            parent = node
        return path


@torch.inference_mode()
def log_likelihoods(model: PLM, prompt: Sequence[int], answers: Sequence[Sequence[int]], end: int) -> list[float]:
    """Logarithm of the probability of each answer's tokens and of its end behind a prompt.

    Args:
        prompt: ids, at least one.
        answers: ids of each answer, at least one each; what goes beyond `MAX_TOKENS` is not looked at.
        end: the id that would end an answer.
    """
    from transformers import DynamicCache

    tree, known = _Tree(), dict[tuple[int, int], int]()
    paths = [tree.add(answer[:MAX_TOKENS], known) for answer in answers]
    device, length, count = model.device, len(prompt), len(tree.ids)
    cache = DynamicCache()
    given = torch.tensor([list(prompt)], device=device)
    first = model.language_model(input_ids=given, cache=cache, use_cache=True, logits_to_keep=1).logits[0, -1]
    logits: Tensor = model.language_model(
        input_ids=torch.tensor([tree.ids], device=device),
        position_ids=torch.tensor([tree.depths], device=device) + length,
        attention_mask=_mask(tree, length, model.dtype).to(device),
        cache=cache,
        use_cache=True,
    ).logits[0]  # nodes, vocabulary
    ids, parents = torch.tensor(tree.ids, device=device), torch.tensor(tree.parents, device=device)
    root = first.float().log_softmax(-1)
    ends = torch.empty(count, device=device)
    steps = root[ids]  # of nodes without a parent; the others' are filled in below
    for start in range(0, count, _AT_ONCE):
        chances = logits[start : start + _AT_ONCE].float().log_softmax(-1)
        ends[start : start + _AT_ONCE] = chances[:, end]
        below = ((parents >= start) & (parents < start + _AT_ONCE)).nonzero()[:, 0]
        steps[below] = chances[parents[below] - start, ids[below]]
    return [
        float(steps[path].sum() + (ends[path[-1]] if len(answer) <= MAX_TOKENS else 0.0))
        for path, answer in zip(paths, answers, strict=True)
    ]


def _mask(tree: _Tree, length: int, dtype: torch.dtype) -> Tensor:
    """What each node may see: the prompt, the nodes above it, itself; (1, 1, nodes, length + nodes), 0 or lowest."""
    seen = torch.eye(len(tree.ids), dtype=torch.bool)
    for node, parent in enumerate(tree.parents):  # parents come first
        if parent >= 0:
            seen[node] |= seen[parent]
    seen = torch.cat((torch.ones(len(tree.ids), length, dtype=torch.bool), seen), dim=1)
    return torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)[None, None]
