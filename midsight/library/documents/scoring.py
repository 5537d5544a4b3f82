"""How likely a language model finds each of many answers: all of them in one pass over a tree of their tokens."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from midsight.plm.answer import Page
from midsight.plm.decode import branches, step
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
def log_likelihoods(
    model: PLM, prompt: Sequence[int], answers: Sequence[Sequence[int]], end: int, page: Page | None = None
) -> list[float]:
    """Logarithm of the probability of each answer's tokens and of its end behind a prompt.

    Args:
        prompt: ids of a text, at least one.
        answers: ids of each answer, at least one each; what goes beyond `MAX_TOKENS` is not looked at.
        end: the id that would end an answer.
        page: what a question was asked about, without pictures; what its cache holds of the prompt is not computed
            again.
    """
    tree, nodes = _Tree(), dict[tuple[int, int], int]()
    paths = [tree.add(answer[:MAX_TOKENS], nodes) for answer in answers]
    page, device, count = page or Page([], []), model.device, len(tree.ids)
    known = page.hold(prompt, model.language_model)
    try:
        first = step(model.language_model, {"inputs_embeds": _embedded(model, prompt[known:])}, page.cache, None)[0]
        page.cached = list(prompt)
        depths, seen = torch.tensor(tree.depths, device=device), _seen(tree).to(device)
        logits = branches(
            model.language_model, _embedded(model, tree.ids), depths, seen, page.cache
        )  # nodes, vocabulary
    except BaseException:
        page.forget()
        raise
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


def _embedded(model: PLM, ids: Sequence[int]) -> Tensor:
    """(1, L, W)."""
    embeds: Tensor = model.token_embedding(torch.tensor([list(ids)], device=model.device))
    return embeds


def _seen(tree: _Tree) -> Tensor:
    """What each node may see of the tree: the nodes above it, itself; bool (nodes, nodes)."""
    seen = torch.eye(len(tree.ids), dtype=torch.bool)
    for node, parent in enumerate(tree.parents):  # parents come first
        if parent >= 0:
            seen[node] |= seen[parent]
    return seen
