"""The text of pages for a prompt, cut to what a model can read: the lines nearest to the question stay."""

from collections import Counter
from collections.abc import Callable, Sequence

from midsight.library.documents.pages import Page
from midsight.library.documents.retrieval import terms

LEFT_OUT = "..."
_NEAR = ((-2, 0.3), (-1, 0.6), (0, 1.0), (1, 0.6), (2, 0.3))  # how a line's neighbours count


def page_text(pages: Sequence[Page], question: str, budget: int, count: Callable[[str], int]) -> str:
    """Text of pages in their order, each under its number where there are several.

    Args:
        pages: in the order in which they are to stand.
        question: what the lines are to be near to.
        budget: most tokens; a text that is longer loses the lines farthest from the question.
        count: tokens of a text.
    """
    lines = [(index, line.text) for index, page in enumerate(pages) for line in page.lines]
    costs = [count(text) + 1 for _, text in lines]
    kept = set(range(len(lines)))
    heads = sum(count(_head(page)) + 2 for page in pages) if len(pages) > 1 else 0
    if sum(costs) + heads > budget:
        kept = _nearest([text for _, text in lines], costs, question, budget - heads)
    blocks = []
    for index, page in enumerate(pages):
        own = [n for n, (of, _) in enumerate(lines) if of == index]
        body = _joined([(n, lines[n][1]) for n in own if n in kept], own)
        if body:
            blocks.append(f"{_head(page)}\n{body}" if len(pages) > 1 else body)
    return "\n\n".join(blocks)


def _head(page: Page) -> str:
    return f"Page {page.id.number}:"


def _joined(kept: Sequence[tuple[int, str]], own: Sequence[int]) -> str:
    """Lines with a mark where some between them are left out."""
    parts: list[str] = []
    before = own[0] - 1 if own else 0
    for n, text in kept:
        if n != before + 1:
            parts.append(LEFT_OUT)
        parts.append(text)
        before = n
    return "\n".join(parts)


def _nearest(texts: Sequence[str], costs: Sequence[int], question: str, budget: int) -> set[int]:
    """Lines that share most with the question, and those beside them, as many as the budget pays."""
    asked = set(terms(question))
    found = [asked.intersection(terms(text)) for text in texts]
    often = Counter(term for shared in found for term in shared)
    own = [sum(1 / often[term] ** 0.5 for term in shared) for shared in found]
    score = [sum(w * own[n + d] for d, w in _NEAR if 0 <= n + d < len(own)) for n in range(len(own))]
    kept: set[int] = set()
    for n in sorted(range(len(texts)), key=lambda n: (-score[n], n)):
        if costs[n] <= budget:
            budget -= costs[n]
            kept.add(n)
    return kept
