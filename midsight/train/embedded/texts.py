"""The text tower: PE's own, small, distilled until it puts each text where the shared space has it.

Its token table starts from the sentence encoder's view of each token's spelling, reduced to the tower's width; the
table is most of the tower, and so it knows rare words before the first step.
"""

import logging
import pickle
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from midsight.configs import PETextConfig
from midsight.errors import ConfigError
from midsight.files import atomic_write
from midsight.pe import TextTransformer
from midsight.tasks.templates import get_templates
from midsight.train.embedded.curves import Report
from midsight.transforms.tokenizer import END_ID, START_ID, TextTokenizer

PLAIN = (
    "{c}", "a {c}", "an {c}", "{c}.", "a photo of a {c}.", "a photo of a {c}", "a picture of a {c}", "the {c}",
    "an image of {c}", "a {c} emoji", "a drawing of a {c}", "clip art of a {c}", "a photo of {c}", "this is a {c}",
    "a video of a {c}.", "a video of {c}", "there is a {c} in the picture", "{c}, a type of thing",
)  # fmt: skip
KEEP_EVERY = 100  # steps after which a run's state is written, some minutes on a CPU
PARTS = 8  # of a batch, by length, on a CPU
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TextConfig:
    """The tower and its distillation."""

    width: int = 320
    heads: int = 5
    layers: int = 4
    context_length: int = 32
    steps: int = 8000
    batch: int = 2048
    lr: float = 2e-3
    weight_decay: float = 0.01
    table_std: float = 0.1  # of the token table at the start
    longest: int = 24  # tokens of a text in training, with both ends
    class_share: float = 0.1  # share of each batch that are names of the thousand classes
    broad_share: float = 0.05  # and names that cover several
    caption_share: float = 0.1  # and captions of drawings
    bare: float = 0.3  # share of texts that stand alone; the others stand in a template
    pictures: int = 512  # made-up pictures a step, for each of which the texts are ranked
    ranking: float = 1.0  # weight of that, beside ten times one minus the cosine to each text's place
    scale: float = 100.0  # of its logits


@dataclass(frozen=True)
class Material:
    """What the tower learns, as tensors that fit on a device."""

    tokens: Tensor  # int32 (N, L), pieces of each text without both ends, 0 behind them
    targets: Tensor  # float16 (N, width), unit rows
    classes: Tensor  # float32 (1000, width), see `words.Words`
    of_classes: Tensor  # positions of the class names,
    of_broad: Tensor  # of names that cover several,
    of_captions: Tensor  # of captions of drawings
    before: Tensor  # int32 (T, 12), pieces of each template before the name, 0 behind them
    after: Tensor  # int32 (T, 12), and after it

    def to(self, device: torch.device) -> "Material":
        return Material(**{name: value.to(device) for name, value in vars(self).items()})


def material(
    tokenizer: TextTokenizer,
    texts: Sequence[str],
    targets: Tensor,
    classes: Tensor,
    pools: tuple[Tensor, Tensor, Tensor],
    longest: int,
) -> Material:
    """Texts and templates as token ids; `pools` are the positions of class names, broad names and captions."""
    templates = [template.split("{c}") for template in (*PLAIN, *get_templates("imagenet1k"))]
    sides = [_pieces(tokenizer, [template[side].strip() for template in templates], 12) for side in (0, 1)]
    pieces = torch.cat([_pieces(tokenizer, texts[i : i + 4096], longest - 2) for i in range(0, len(texts), 4096)])
    return Material(pieces, targets.half(), classes, *pools, *sides)


def _pieces(tokenizer: TextTokenizer, texts: Sequence[str], length: int) -> Tensor:
    """int32 (N, length): ids between both ends, 0 behind them."""
    tokens = tokenizer(list(texts))[:, 1:].int()
    tokens[tokens == END_ID] = 0
    return tokens[:, :length].contiguous()


def put_together(parts: Sequence[Tensor], longest: int) -> Tensor:
    """int64 (B, longest): the parts (B, ·) of each text one behind the other, zeros left out, between both ends.

    Pieces of CLIP's vocabulary never cross a blank, nor the seam of a letter and a sign, so the ids of "a photo of a",
    "tabby" and "." are those of the whole. Not so where a name ends in a sign ("St." and "." are one piece of the
    whole), and where it has id 0, a "!" with more signs behind it, which stands for nothing here.
    """
    joined = torch.cat(list(parts), 1).long()
    order = (joined == 0).byte().argsort(dim=1, stable=True)  # what is there moves to the front
    joined = joined.gather(1, order)[:, : longest - 2]
    joined = F.pad(joined, (1, 1))
    joined[:, 0] = START_ID
    ends = (joined != 0).sum(1, keepdim=True)
    return joined.scatter(1, ends, END_ID)


def start_table(tower: TextTransformer, spelled: Tensor, std: float) -> None:
    """Fill the token table with sentence embeddings (M, 384) of what the first M ids spell, in its own width."""
    vectors = spelled - spelled.mean(0)
    axes = torch.linalg.eigh(vectors.T @ vectors).eigenvectors.flip(1)
    table = vectors @ axes[:, : tower.text_config.width]
    with torch.no_grad():
        tower.token_embedding.weight[: len(table)] = table * (std / table.std())


def new_tower(config: TextConfig, output_dim: int) -> TextTransformer:
    """The untrained tower.

    Raises:
        ConfigError: a tower narrower than its output, whose embeddings would not fill the space.
    """
    if config.width < output_dim:
        raise ConfigError(f"text.width {config.width} is less than the {output_dim} dimensions of the space")
    return TextTransformer(PETextConfig(config.context_length, config.width, config.heads, config.layers, output_dim))


@torch.inference_mode()
def encode_all(tower: TextTransformer, tokenizer: TextTokenizer, texts: Sequence[str]) -> Tensor:
    """Unit embeddings (N, width) of any number of texts, those of like length together."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    result = torch.empty(len(texts), tower.text_config.output_dim)
    for start in range(0, len(order), 512):
        rows = order[start : start + 512]
        tokens = tokenizer([texts[i] for i in rows])
        longest = int((tokens == END_ID).int().argmax(1).max()) + 1
        result[rows] = F.normalize(tower.forward_text(tokens[:, :longest]).float(), dim=-1)
    return result


class TextBatches:
    """Draws texts and their places: class names, broad names and captions more often than the rest."""

    def __init__(self, config: TextConfig, material: Material, seed: int) -> None:
        self.config, self.material = config, material
        self.device = material.tokens.device
        self.generator = torch.Generator(self.device).manual_seed(seed)

    def __call__(self) -> tuple[Tensor, Tensor]:
        """Token ids (B, longest) and unit rows (B, width)."""
        config, data, size = self.config, self.material, self.config.batch
        counts = [int(size * share) for share in (config.class_share, config.broad_share, config.caption_share)]
        pools = zip((data.of_classes, data.of_broad, data.of_captions), counts, strict=True)
        rows = torch.cat([
            *(pool[self._draw(len(pool), count)] for pool, count in pools),
            self._draw(len(data.tokens), size - sum(counts)),
        ])  # fmt: skip
        lots = self._draw(len(data.before), size)
        bare = torch.rand(size, 1, generator=self.generator, device=self.device) < config.bare
        before, after = (side[lots].masked_fill(bare, 0) for side in (data.before, data.after))
        return put_together((before, data.tokens[rows], after), config.longest), data.targets[rows].float()

    def pictures(self) -> Tensor:
        """Unit rows (pictures, width) of made-up pictures: one class mostly, a few others beside it."""
        config, data = self.config, self.material
        lots = self._draw(len(data.classes), config.pictures * 4).view(-1, 4)
        shares = torch.rand(config.pictures, 4, generator=self.generator, device=self.device).square()
        shares[:, 0] += 1
        return F.normalize((shares[..., None] * data.classes[lots]).sum(1), dim=-1)

    def _draw(self, below: int, count: int) -> Tensor:
        return torch.randint(below, (count,), generator=self.generator, device=self.device)


class TextRun:
    """A tower in training: what changes from step to step, and how it is kept."""

    def __init__(self, config: TextConfig, tower: TextTransformer, data: Material, seed: int) -> None:
        self.config, self.seed, self.step = config, seed, 0
        self.tower = tower.to(data.tokens.device).train()
        self.batches = TextBatches(config, data, seed)
        decayed = [p for p in tower.parameters() if p.ndim > 1]
        plain = [p for p in tower.parameters() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, config.lr, betas=(0.9, 0.98), fused=True)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimiser, config.lr, config.steps, pct_start=0.05)

    def advance(self) -> dict[str, float]:
        """One step; its losses."""
        tokens, target = self.batches()
        embedded = F.normalize(embed(self.tower, tokens).float(), dim=-1)
        cosine = 1 - (embedded * target).sum(-1).mean()
        ranking = _ranking(self.batches.pictures(), embedded, target, self.config.scale)
        self.optimiser.zero_grad()
        (10 * cosine + self.config.ranking * ranking).backward()
        torch.nn.utils.clip_grad_norm_(self.tower.parameters(), 1.0)
        self.optimiser.step()
        self.schedule.step()
        losses = {"step": self.step, "1 - cosine": cosine.item(), "ranking": ranking.item()}
        self.step += 1
        return losses

    def write(self, path: Path) -> None:
        """The state, whole or not at all."""
        state = {"settings": self._settings(), "step": self.step, "generator": self.batches.generator.get_state()}
        state |= {name: part.state_dict() for name, part in self._parts().items()}
        with atomic_write(path) as file:
            torch.save(state, file)

    def read(self, path: Path) -> None:
        """Take up a state that `write` left; one of other settings, or one that cannot be read, is passed over."""
        try:
            state = torch.load(path, map_location=self.batches.device, weights_only=True)
        except FileNotFoundError:
            return
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            log.warning("text: %s cannot be read (%s): from the first step", path, error)
            return
        if state["settings"] != self._settings():
            log.warning("text: %s is of other settings: from the first step", path)
            return
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.batches.generator.set_state(state["generator"].cpu())
        self.step = state["step"]
        log.info("text: on from step %d", self.step)

    def _parts(self) -> dict[str, Any]:
        return {"tower": self.tower, "optimiser": self.optimiser, "schedule": self.schedule}

    def _settings(self) -> dict[str, Any]:
        return {"seed": self.seed, "texts": len(self.batches.material.tokens), **asdict(self.config)}


def embed(tower: TextTransformer, tokens: Tensor) -> Tensor:
    """Embeddings (B, width) of token ids (B, L), with gradients, in bfloat16 where that is safe.

    On a CPU, texts of like length go through together, cut to the longest of them: the causal mask keeps what follows
    an end from mattering. And torch's fused attention is slow there on the way back.
    """
    if tokens.device.type != "cpu":
        with torch.autocast(tokens.device.type, torch.bfloat16):
            return tower(tokens)
    lengths, order = ((tokens == END_ID).int().argmax(1) + 1).sort()
    with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
        parts = zip(order.chunk(PARTS), lengths.chunk(PARTS), strict=True)
        found = [tower(tokens[rows, : int(length[-1])]) for rows, length in parts]
    return torch.cat(found)[order.argsort()]


def train_text(
    config: TextConfig,
    tower: TextTransformer,
    data: Material,
    seed: int,
    report: Report | None = None,
    kept: Path | None = None,
) -> TextTransformer:
    """Distil, on the device that `data` is on: each text to its place, and texts ranked as there for any picture.

    Args:
        report: called with the losses of every hundredth step.
        kept: file that takes the state every `KEEP_EVERY` steps, and that an interrupted run goes on from.
    """
    run, start = TextRun(config, tower, data, seed), time.perf_counter()
    if kept is not None:
        run.read(kept)
    while run.step < config.steps:
        losses = run.advance()
        spent = time.perf_counter() - start
        if losses["step"] % 100 == 0 or run.step == config.steps:
            log.info("text, %.0f s: %s", spent, ", ".join(f"{name} {value:.4g}" for name, value in losses.items()))
            if report is not None:
                report(losses)
        if kept is not None and (run.step % KEEP_EVERY == 0 or run.step == config.steps):
            run.write(kept)
    return run.tower.eval().cpu()


def _ranking(pictures: Tensor, embedded: Tensor, target: Tensor, scale: float) -> Tensor:
    """KL between the softmax over texts that each picture gives, by the tower and by the texts' places."""
    wanted = (scale * pictures @ target.T).log_softmax(-1)
    found = (scale * pictures @ embedded.T).log_softmax(-1)
    return F.kl_div(found, wanted, reduction="batchmean", log_target=True)
