"""One token after the other: transformers' language model, its own rules of sampling, our loop.

Llamas go through `lean.py`, all others through transformers' own forward pass and cache.

The loop yields ids as they come, so that answers can be streamed, cut at a text and interrupted; a batch goes on until
each of its rows has ended.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from midsight.errors import ConfigError
from midsight.plm import lean
from midsight.plm.lean import KVCache

Chooser = Callable[[Tensor, Tensor], Tensor]  # ids so far (B, n), logits (B, V) -> ids (B,)


@dataclass(frozen=True)
class Sampling:
    """How the next id is chosen; the defaults take the most likely one, as published."""

    temperature: float = 0.0  # 0: the most likely
    top_p: float | None = None
    top_k: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ConfigError(f"temperature must be 0 or more, got {self.temperature}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p must be above 0 and at most 1, got {self.top_p}")
        if self.top_k is not None and self.top_k < 1:
            raise ConfigError(f"top_k must be at least 1, got {self.top_k}")


def decode(
    language_model: nn.Module,
    embeds: Tensor,
    *,
    stop: Sequence[int],
    max_new_tokens: int,
    attention_mask: Tensor | None = None,
    sampling: Sampling = Sampling(),  # noqa: B008 (frozen)
    cache: Any = None,
) -> Iterator[Tensor]:
    """Ids (B,), one tensor a step; a row that has ended yields the first stop id from then on.

    Args:
        embeds: (B, L, D), what the language model has not seen yet.
        stop: ids that end a row.
        max_new_tokens: most steps.
        attention_mask: (B, cached + L), 0 at padding on the left; None where there is none.
        cache: of what came before, from `new_cache`; it is added to.
    """
    choose = _chooser(sampling, embeds.device)
    cache = new_cache(language_model) if cache is None else cache
    ends = torch.tensor(list(stop), device=embeds.device)
    ended = torch.zeros(len(embeds), dtype=torch.bool, device=embeds.device)
    so_far = torch.empty(len(embeds), 0, dtype=torch.long, device=embeds.device)
    mask = None if attention_mask is None or bool(attention_mask.all()) else attention_mask.long()
    given: dict[str, Tensor] = {"inputs_embeds": embeds}
    for _ in range(max_new_tokens):
        logits = step(language_model, given, cache, mask)
        ids = torch.where(ended, ends[0], choose(so_far, logits.float()))
        ended = ended | torch.isin(ids, ends)
        so_far = torch.cat((so_far, ids[:, None]), dim=1)
        yield ids
        if bool(ended.all()):
            return
        given = {"input_ids": ids[:, None]}
        if mask is not None:
            mask = torch.cat((mask, mask.new_ones(len(mask), 1)), dim=1)


def new_cache(language_model: nn.Module) -> Any:
    """An empty cache of keys and values for this language model."""
    if lean.supports(language_model):
        return KVCache()
    from transformers import DynamicCache

    return DynamicCache()


def rewind(cache: Any, length: int) -> None:
    """Forget all but the first `length` tokens."""
    if isinstance(cache, KVCache):
        cache.length = min(cache.length, length)
    elif (more := cache.get_seq_length() - length) > 0:
        cache.crop(-more)  # a negative number: so many go


def step(language_model: nn.Module, given: dict[str, Tensor], cache: Any, mask: Tensor | None) -> Tensor:
    """Logits (B, V) behind the last of the given tokens, which enter the cache."""
    if isinstance(cache, KVCache):
        embeds = given.get("inputs_embeds")
        if embeds is None:
            embeds = cast(Any, language_model).model.embed_tokens(given["input_ids"])
        return lean.step(language_model, embeds, cache, mask)
    options: dict[str, Any] = {}
    if mask is not None:
        places = mask.cumsum(1) - 1
        length = next(iter(given.values())).shape[1]
        options = {"attention_mask": mask, "position_ids": places.clamp(min=0)[:, -length:]}
    output = language_model(**given, **options, cache=cache, use_cache=True, logits_to_keep=1)
    logits: Tensor = output.logits[:, -1]
    return logits


def branches(language_model: nn.Module, embeds: Tensor, depths: Tensor, seen: Tensor, cache: Any) -> Tensor:
    """Logits (N, V) behind each of the tokens of a tree that goes on from the cache, which stays as it is.

    Args:
        embeds: (1, N, W), the tree's tokens.
        depths: int64 (N,), how far behind the cached tokens each stands.
        seen: bool (N, N), which tokens of the tree each one sees, itself among them; it sees all cached ones.
    """
    known = cache.length if isinstance(cache, KVCache) else cache.get_seq_length()
    seen = torch.cat((seen.new_ones(len(seen), known), seen), dim=1)[None, None]  # 1, 1, N, T
    if isinstance(cache, KVCache):
        return lean.branches(language_model, embeds, known + depths, seen, cache)
    bias = torch.zeros(seen.shape, dtype=embeds.dtype, device=embeds.device)
    bias = bias.masked_fill(~seen, torch.finfo(embeds.dtype).min)
    places = (known + depths)[None]
    output = language_model(
        inputs_embeds=embeds, position_ids=places, attention_mask=bias, cache=cache, use_cache=True
    )  # fmt: skip
    rewind(cache, known)
    logits: Tensor = output.logits[0]
    return logits


def _chooser(sampling: Sampling, device: torch.device) -> Chooser:
    if sampling.temperature == 0:
        return lambda so_far, logits: logits.argmax(-1)
    from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    rules = LogitsProcessorList([TemperatureLogitsWarper(sampling.temperature)])
    if sampling.top_p is not None:  # as published, it goes before top_k
        rules.append(TopPLogitsWarper(sampling.top_p))
    elif sampling.top_k is not None:
        rules.append(TopKLogitsWarper(sampling.top_k))
    generator = torch.Generator(device).manual_seed(sampling.seed)

    def draw(so_far: Tensor, logits: Tensor) -> Tensor:
        chances = rules(cast(Any, so_far), cast(Any, logits)).softmax(-1)  # they are annotated too narrowly
        return torch.multinomial(chances, 1, generator=generator)[:, 0]

    return draw
