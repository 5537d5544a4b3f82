"""One PerceptionLM in one dtype: midsight and transformers in turn, and each alone, for its memory."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import machine
from benchmarks.common import check_same, least_cosine, relative_error
from midsight.plm import PLM
from midsight.plm.decode import new_cache, rewind, step

TILES = (1, 5)
NEW = 9  # tokens of an answer
BEFORE, QUESTION = 80, 20  # tokens in front of the picture and behind it
TOKENS_PER_TILE = 256
Trace = list[float]  # CPU seconds from the start to each token


@dataclass
class Prompt:
    """Text, tiles, text."""

    ids: Tensor  # 1, L
    pixels: Tensor  # 1, tiles, 3, 448, 448

    @classmethod
    def of(cls, tiles: int, image_token_id: int) -> "Prompt":
        """Random text and pixels."""
        generator = torch.Generator().manual_seed(3)
        text = torch.randint(0, 40_000, (1, BEFORE + QUESTION), generator=generator)
        image = torch.full((1, tiles * TOKENS_PER_TILE), image_token_id)
        ids = torch.cat((text[:, :BEFORE], image, text[:, BEFORE:]), 1)
        return cls(ids, torch.rand(1, tiles, 3, 448, 448, generator=generator) * 2 - 1)


def measure(folder: str, dtype: str, rounds: int) -> list[dict[str, Any]]:
    """One entry for each number of tiles: traces of all rounds, and how far the outputs are apart."""
    machine.pin()
    theirs, ours = load_theirs(folder, dtype), load_ours(folder, dtype)
    if dtype == "float32":
        share(ours, theirs)
    with torch.inference_mode():
        return [one(ours, theirs, tiles, rounds) for tiles in TILES]


def one(ours: PLM, theirs: Any, tiles: int, rounds: int) -> dict[str, Any]:
    """One prompt."""
    prompt = Prompt.of(tiles, ours.config.image_token_id)
    found = {"tiles": tiles, "tokens": prompt.ids.shape[1], **compared(ours, theirs, prompt)}
    calls: dict[str, Callable[[], Trace]] = {
        "midsight": lambda: first(ours, prompt),
        "page": Page(ours, prompt).second,
        "transformers": lambda: peer(theirs, prompt),
    }
    return {**found, "traces": in_turn(calls, rounds)}


def in_turn(calls: dict[str, Callable[[], Trace]], rounds: int) -> dict[str, list[Trace]]:
    """All in turn; the comparison before has warmed them."""
    traces: dict[str, list[Trace]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            traces[name].append(call())
    return traces


def compared(ours: PLM, theirs: Any, prompt: Prompt) -> dict[str, float]:
    """Logits behind the prompt; the process ends where they are not those of the same model."""
    cache = new_cache(ours.language_model)
    found = step(ours.language_model, {"inputs_embeds": ours.embed(prompt.ids, prompt.pixels)}, cache, None)
    expected = theirs(input_ids=prompt.ids, pixel_values=prompt.pixels, logits_to_keep=1).logits[:, -1]
    a, b = found.double().numpy(), expected.double().numpy()
    if expected.dtype == torch.float32:
        check_same(a, b, "logits")
    elif not (least_cosine(a, b) > 0.99 and b.std() > 1e-2):
        raise RuntimeError(f"cosine {least_cosine(a, b):.5f}: these are not the same weights")
    return {"error": relative_error(a, b), "cosine": least_cosine(a, b)}


def load_ours(folder: str, dtype: str) -> PLM:
    """midsight, as its page on answers says."""
    return PLM.from_pretrained(folder, dtype=getattr(torch, dtype)).pack()


def load_theirs(folder: str, dtype: str) -> Any:
    """transformers, with its default attention."""
    from transformers import PerceptionLMForConditionalGeneration

    return PerceptionLMForConditionalGeneration.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()


def share(ours: PLM, theirs: Any) -> None:
    """The language model's weights once in memory, for both."""
    state = theirs.state_dict()
    for name, parameter in ours.language_model.named_parameters():
        key = name if name.startswith("lm_head") else "model.language_model." + name.removeprefix("model.")
        parameter.data = state[key]


def timed(tokens: Iterator[Any], start: float) -> Trace:
    """When each token came."""
    return [time.process_time() - start for _ in tokens]


def first(ours: PLM, prompt: Prompt) -> Trace:
    """A prompt that was not seen before."""
    start = time.process_time()
    return timed(ours.decode(ours.embed(prompt.ids, prompt.pixels), NEW), start)


class Page:
    """The start of a prompt, read once."""

    def __init__(self, ours: PLM, prompt: Prompt) -> None:
        self.ours, self.length = ours, prompt.ids.shape[1] - QUESTION
        self.question = prompt.ids[:, self.length :]
        self.cache = new_cache(ours.language_model)
        start = ours.embed(prompt.ids[:, : self.length], prompt.pixels)
        step(ours.language_model, {"inputs_embeds": start}, self.cache, None)

    def second(self) -> Trace:
        """Another question about it."""
        rewind(self.cache, self.length)
        start = time.process_time()
        return timed(self.ours.decode(self.ours.embed(self.question), NEW, cache=self.cache), start)


def peer(theirs: Any, prompt: Prompt) -> Trace:
    """transformers' `generate`, greedy."""
    from transformers import StoppingCriteria, StoppingCriteriaList

    class Clock(StoppingCriteria):
        def __init__(self) -> None:
            self.start, self.trace = time.process_time(), Trace()

        def __call__(self, ids: Tensor, scores: Tensor, **kwargs: Any) -> Tensor:
            self.trace.append(time.process_time() - self.start)
            return torch.zeros(len(ids), dtype=torch.bool)

    clock = Clock()
    theirs.generate(
        input_ids=prompt.ids, attention_mask=torch.ones_like(prompt.ids), pixel_values=prompt.pixels,
        max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False, stopping_criteria=StoppingCriteriaList([clock]),
    )  # fmt: skip
    return clock.trace


def alone(who: str, folder: str, dtype: str) -> dict[str, float]:
    """Load and answer once; the private memory is that which no file backs."""
    machine.pin()
    start = time.process_time()
    model = load_ours(folder, dtype) if who == "midsight" else load_theirs(folder, dtype)
    loading = time.process_time() - start
    with torch.inference_mode():
        if isinstance(model, PLM):
            first(model, Prompt.of(1, model.config.image_token_id))
        else:
            peer(model, Prompt.of(1, model.config.image_token_id))
    return {"load": loading, "private": private()}


def private() -> float:
    """Anonymous resident memory, MB."""
    lines = open("/proc/self/status", encoding="utf-8").read().splitlines()  # noqa: SIM115
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith("RssAnon"))


def each_token(traces: list[Trace]) -> Any:
    """CPU seconds for each token after the first, by round."""
    return np.array([(trace[-1] - trace[0]) / (len(trace) - 1) for trace in traces])
