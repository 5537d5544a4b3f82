"""A projector for the small language model, learnt from texts alone: does the model then see better than the encoder?

`python -m benchmarks.projector WORK [--steps N] [--write]`; WORK is where `midsight.train.embedded` keeps its data.

No packaged pictures show enough of the world to teach a projector, but names can: the projector (two layers, four soft
words) and adapters of the language model learn from made-up pictures, each the place of a name's text mixed with those
of other names and with noise. A photograph becomes such a mixture, too: of all names' places, by their chances. Then
it is asked what `benchmarks.photographs` asks, beside `midsight ask`, whose encoder answers by itself.
"""

import argparse
import logging
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.documents import write
from benchmarks.photographs import Question, Told, Way, ask_all, table, with_article
from midsight.files import atomic_write

MARKS = ("quartz", "basalt", "velvet", "lattice")  # one token each; their rows of the table are the soft words
TOLD = f"The picture shows {' '.join(MARKS)}."
WHAT = ("What is in this picture?", "What is this?", "What does the picture show?")
KEEP_EVERY = 20  # steps, some minutes on a CPU
NEAR = 20  # names that count as alike
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """How it is trained; our choices."""

    steps: int = 1000
    batch: int = 24
    hidden: int = 512
    rank: int = 8  # of the adapters
    lr: float = 1e-3  # of the projector
    lora_lr: float = 3e-4
    warmup: float = 0.03  # of the steps
    mixed: float = 0.5  # most weight of other names, beside 1 for the name
    noise: float = 0.7  # most noise, as long as so many times the name's place
    sharp: float = 2.0  # power of the chances that mix a photograph's place
    shares: dict[str, float] = field(default_factory=lambda: {"what": 0.4, "yes_no": 0.35, "choice": 0.25})
    seed: int = 0


class SoftWords(nn.Module):
    """Places of pictures, unit (B, W), to soft words (B, 4, dim), each as long as a token's row is on average."""

    def __init__(self, width: int, hidden: int, dim: int, length: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, len(MARKS) * dim))
        self.scale = nn.Parameter(torch.full((len(MARKS), 1), length))

    def forward(self, places: Tensor) -> Tensor:
        words = self.layers(places * places.shape[1] ** 0.5).unflatten(1, (len(MARKS), -1))  # B, 4, dim
        return F.normalize(words, dim=-1) * self.scale


class Rows:
    """Made-up pictures with a question and its answer, without end.

    Args:
        names: what there can be, with the broader names of each.
        places: of the names' texts, unit float32 (N, W).
    """

    def __init__(self, names: dict[str, list[str]], places: Tensor, settings: Settings) -> None:
        self.names, self.above = list(names), list(names.values())
        self.places, self.settings = places, settings
        self.alike = (places @ places.T).topk(NEAR + 1).indices[:, 1:]
        self.draw = random.Random(settings.seed)
        self.generator = torch.Generator().manual_seed(settings.seed)

    def batch(self) -> tuple[Tensor, list[tuple[str, str]]]:
        """Places (B, W), and questions with answers."""
        numbers = [self.draw.randrange(len(self.names)) for _ in range(self.settings.batch)]
        return self._pictures(torch.tensor(numbers)), [self._row(number) for number in numbers]

    def _pictures(self, numbers: Tensor) -> Tensor:
        count, width = len(numbers), self.places.shape[1]
        near = torch.randint(NEAR, (count, 2), generator=self.generator)
        others = torch.cat([
            self.alike[numbers[:, None], near],
            torch.randint(len(self.names), (count, 2), generator=self.generator),
        ], dim=1)  # B, 4  # fmt: skip
        weights = self._uniform(count, 4) * self.settings.mixed
        mixed = self.places[numbers] + (weights[..., None] * self.places[others]).sum(1)
        noise = F.normalize(torch.randn(count, width, generator=self.generator), dim=-1)
        return F.normalize(mixed + self.settings.noise * self._uniform(count, 1) * noise, dim=-1)

    def _uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.generator)

    def _row(self, number: int) -> tuple[str, str]:
        name, draw = self.names[number], self.draw
        kind = draw.choices(list(self.settings.shares), list(self.settings.shares.values()))[0]
        if kind == "what":
            return draw.choice(WHAT), with_article(name)
        other = self.names[int(draw.choice(self.alike[number].tolist()))]
        if kind == "choice":
            options = [name, other, *draw.sample(self.names, 2)]
            draw.shuffle(options)
            told = [with_article(option) for option in options]
            return f"Is it {', '.join(told[:3])} or {told[3]}?", with_article(name)
        if draw.random() < 0.5:
            thing, answer = draw.choice([name, name, *self.above[number]]), "Yes"
        else:
            thing, answer = draw.choice([other, draw.choice(self.names), draw.choice(self.names)]), "No"
            if thing == name or thing in self.above[number]:
                answer = "Yes"
        return f"Is there {with_article(thing)} in the picture?", answer


class Seeing:
    """A language model with soft words in its prompt."""

    def __init__(self, model: Any, width: int, settings: Settings) -> None:
        from peft import LoraConfig, get_peft_model

        from midsight.library.documents.prompts import scoring_prompt

        self._prompt = scoring_prompt
        table = model.token_embedding.weight.detach().float()
        model.language_model.requires_grad_(False)
        lora = LoraConfig(r=settings.rank, lora_alpha=2 * settings.rank, target_modules="all-linear")
        torch.manual_seed(settings.seed)
        self.adapted = get_peft_model(model.language_model, lora)
        head = model.language_model.lm_head  # a table of its own, for soft words are nothing that could be written
        head.weight = nn.Parameter(head.weight.detach().clone(), requires_grad=False)
        self.model, self.tokenizer, self.table = model, model.tokenizer, table
        self.words = SoftWords(width, settings.hidden, table.shape[1], float(table.norm(dim=1).mean()))
        found = [self.tokenizer.encode(f" {mark}") for mark in MARKS]
        assert all(len(ids) == 1 for ids in found), "each mark must be one token"
        self.marks = [ids[0] for ids in found]
        self.newline = self.tokenizer.encode("\n")[0]

    def ids(self, question: str, answer: str | None = None) -> tuple[list[int], int]:
        """Token ids, and how many of them are the prompt's."""
        prompt = self.tokenizer.encode(self._prompt(TOLD, question))
        rest = [] if answer is None else [*self.tokenizer.encode(f" {answer}"), self.newline]
        return [*prompt, *rest], len(prompt)

    def loss(self, places: Tensor, rows: Sequence[tuple[str, str]]) -> Tensor:
        """Of the answers' tokens, a mean over all of them."""
        found = [self.ids(*row) for row in rows]
        longest = max(len(ids) for ids, _ in found)
        ids = torch.full((len(rows), longest), self.newline)
        labels = torch.full((len(rows), longest), -100)
        for row, (tokens, prompt) in enumerate(found):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            labels[row, prompt : len(tokens)] = ids[row, prompt : len(tokens)]
        embeds = self.embed(ids, self.words(places))
        with sdpa_kernel(SDPBackend.MATH):  # the fused attention is slow on the way back on a CPU
            states = self.adapted.base_model.model.model(inputs_embeds=embeds, use_cache=False).last_hidden_state
        asked = labels[:, 1:] != -100
        logits = self.model.language_model.lm_head(states[:, :-1][asked]).float()
        return F.cross_entropy(logits, labels[:, 1:][asked])

    def embed(self, ids: Tensor, words: Tensor) -> Tensor:
        """What enters the language model (B, L, D), with words (B, 4, D) in the places of the marks."""
        embeds = self.table[ids]
        for place, mark in enumerate(self.marks):
            at = ids == mark
            embeds = torch.where(at[..., None], words[:, place, None], embeds)
        return embeds.to(self.model.dtype)

    def parameters(self) -> Iterator[nn.Parameter]:
        """What is trained beside the projector."""
        return (p for p in self.adapted.parameters() if p.requires_grad)

    def write(self, question: str, most: int = 12) -> str:
        """What it says by itself, one line."""
        ids, _ = self.ids(question)
        found = self.model.generate(torch.tensor([ids]), max_new_tokens=most)[0].tolist()
        return str(self.tokenizer.decode(found)).split("\n")[0].strip()

    @torch.no_grad()
    def put(self, place: Tensor) -> None:
        """Make the marks' rows of the table the soft words of a picture, unit (W,)."""
        self.model.token_embedding.weight[self.marks] = self.words(place[None])[0].to(self.model.dtype)


def train(seeing: Seeing, rows: Rows, settings: Settings, kept: Path) -> list[float]:
    """The losses of all steps.

    Args:
        kept: file that takes the state every `KEEP_EVERY` steps, and that an interrupted run goes on from.
    """
    groups = [
        {"params": list(seeing.words.parameters()), "lr": settings.lr, "weight_decay": 0.01},
        {"params": list(seeing.parameters()), "lr": settings.lora_lr, "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.98))
    peaks = [settings.lr, settings.lora_lr]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, peaks, settings.steps, pct_start=settings.warmup)
    trained = [parameter for group in groups for parameter in group["params"]]  # type: ignore[attr-defined]
    losses: list[float] = []
    if kept.exists() and (state := torch.load(kept, weights_only=True))["settings"] == asdict(settings):
        for parameter, value in zip(trained, state["trained"], strict=True):
            parameter.data.copy_(value)
        optimiser.load_state_dict(state["optimiser"])
        schedule.load_state_dict(state["schedule"])
        rows.draw.setstate(state["draw"])
        rows.generator.set_state(state["generator"])
        losses = state["losses"]
    start, first = time.perf_counter(), len(losses)
    for step in range(first, settings.steps):
        loss = seeing.loss(*rows.batch())
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
        if (step + 1) % KEEP_EVERY and step + 1 < settings.steps:
            continue
        seconds = (time.perf_counter() - start) / (step + 1 - first)
        log.info("step %d of %d, loss %.3f, %.2f s a step", step + 1, settings.steps, np.mean(losses[-20:]), seconds)
        with atomic_write(kept) as file:
            torch.save({
                "settings": asdict(settings), "trained": [parameter.data for parameter in trained], "losses": losses,
                "optimiser": optimiser.state_dict(), "schedule": schedule.state_dict(),
                "draw": rows.draw.getstate(), "generator": rows.generator.get_state(),
            }, file)  # fmt: skip
    return losses


def by_projector(seeing: Seeing, eye: Any, places: Tensor, sharp: float) -> Way:
    """A language model that sees by soft words.

    Args:
        eye: knows the chances of names.
        places: of the names' texts, unit (N, W).
    """
    told = Told(seeing.model)

    def answer(path: str, question: Question) -> str:
        logits = torch.from_numpy(eye.logits(eye.model.embed_images([path])[0])).float()
        seeing.put(F.normalize((sharp * logits).softmax(0) @ places, dim=0))
        if not question.options:
            return seeing.write(question.text)
        return question.options[int(np.argmax(told.liked(TOLD, question)))]

    return answer


def run(work: Path, settings: Settings, most: int) -> str:
    """Trains it, and gives a table: `midsight ask` and the projector on the same pictures."""
    import midsight
    from midsight.data import packaged
    from midsight.library.documents.ask import DocumentAsker
    from midsight.library.documents.pages import Reader
    from midsight.library.documents.seen import Eye, visible_names
    from midsight.plm.packaged import open_smollm2

    looks = midsight.load()
    names = visible_names()
    places = torch.from_numpy(looks.embed_texts(list(names), "photo"))
    seeing = Seeing(open_smollm2(), places.shape[1], settings)
    losses = train(seeing, Rows(names, places, settings), settings, work / "projector.pt")
    pictures = packaged.everyday(work / "data")
    questions = list(ask_all(pictures, work / "data"))
    few = set(random.Random(2).sample(sorted({question.number for question in questions}), most))
    asked = [question for question in questions if question.number in few]
    with Reader() as reader, torch.inference_mode():
        asker = DocumentAsker(open_smollm2(), reader, looks=lambda: looks)
        ask: Way = lambda path, question: asker.ask([path], question.text).answer  # noqa: E731
        by_words = by_projector(seeing, Eye(looks), places, settings.sharp)
        found = table(pictures, [("midsight ask", ask, asked), ("a projector learnt from texts", by_words, asked)])
    rows = settings.steps * settings.batch
    return f"{found}\n\n{rows:,} made-up pictures; loss of an answer's tokens at the end {np.mean(losses[-50:]):.2f}."


def main() -> None:
    """Prints the table, or writes it into docs/ask.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, metavar="WORK")
    parser.add_argument("--steps", type=int, default=Settings.steps)
    parser.add_argument("--pictures", type=int, default=60, help="photographs that are asked about")
    parser.add_argument("--write", action="store_true", help="into docs/ask.md")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    found = run(args.work, Settings(steps=args.steps), args.pictures)
    print(found)
    if args.write:
        write("documents_projector", found)


if __name__ == "__main__":
    sys.exit(main())
