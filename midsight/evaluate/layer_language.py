"""Layers by language: which block a language model can answer best from, as the papers choose the layer of PE-Lang.

For each layer a fresh projector (as in `midsight.plm.projector`, on standardised features) learns to put the patch
tokens into the words of a frozen language model; the rows are questions with one picture and their answers. The score
is the loss of the answers that were held out, the mean over their tokens; beside it the share of rows whose answers
are exact: at each place the most likely token is the right one, which is what greedy decoding gives.

Chosen here: the frozen language model, its size and the number of steps. The papers tune the language model as well.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from midsight.api import Perception, dense_encoder
from midsight.data.samples import BadSample
from midsight.data.splits import held_contents
from midsight.data.tables import TablePart
from midsight.errors import InputError
from midsight.evaluate.layer_features import Pictures, Report, compute
from midsight.evaluate.layer_fit import groups
from midsight.evaluate.layer_store import TokenStore
from midsight.evaluate.layer_types import Measured, SweepConfig, features_key
from midsight.evaluate.metrics.bootstrap import Floats
from midsight.evaluate.probes import fit, standard_of
from midsight.files import content_hash
from midsight.images import load_image
from midsight.plm.assemble import Language, open_language
from midsight.plm.chat import Chat, chat_format, encode
from midsight.plm.packing import Pack, pack, packed_logits
from midsight.plm.projector import Projector
from midsight.plm.rows import LearntRow, media_names
from midsight.transforms.image import from_config

_TRAINING, _VALIDATION = ("train.jsonl", "training.jsonl"), ("val.jsonl", "validation.jsonl", "valid.jsonl")
_MAX_LENGTH = 2048  # tokens of a row
_BATCH = 8  # rows of a step
_LEAST_STEPS = 60
_KEPT = 60  # bytes that a language model keeps of each token, block and channel for the backward pass, about


@dataclass(frozen=True)
class Asked:
    """Rows with one picture each; the first `training` are trained on."""

    rows: tuple[LearntRow, ...]  # without pixels
    exact: tuple[Tensor, ...]  # of each row: bool, which of its predicted tokens must be right for an exact answer
    pictures: tuple[Path, ...]
    training: int
    left_out: dict[str, int]


def measure_language(
    model: Perception, data: Path, config: SweepConfig, folder: Path | None, report: Report
) -> Measured:
    """Loss and exact answers of each layer on the rows held out; see `sweep_layers`."""
    language = open_language(config.language)
    language.model.requires_grad_(False).eval().to(model.device)
    grid = model.preprocess.image_size // model.tower.patch_size
    pooling = 1 if grid % 2 else 2
    asked = read_asked(data, language, (grid // pooling) ** 2, config.share)
    store = _features(model, asked, config, folder, report)
    good = set(store.good)
    training = [number for number in range(asked.training) if number in good]
    measured = [number for number in range(asked.training, len(asked.rows)) if number in good]
    if not training or not measured:
        raise InputError(
            f"{data}: {len(training)} rows to train on and {len(measured)} to measure have a picture that can be read; "
            f"expected some of both. What cannot be read: {next(iter(store.bad.values()), 'nothing')}"
        )
    study = _Study(model, store, asked, language, pooling)
    found = study.run(training, measured, config, report)
    bad = {"unreadable picture": len(store.bad)} if store.bad else {}
    exact = found[..., 2].mean(axis=1)
    return Measured(
        found, "loss", len(training), len(measured), asked.left_out | bad, _ratio, higher=False, unit="rows",
        also={"exact answers": tuple(float(value) for value in exact)},
    )  # fmt: skip


def _ratio(statistics: Floats) -> Floats:
    """Losses over tokens."""
    return statistics[..., 0] / statistics[..., 1]


def read_asked(data: Path, language: Language, tokens: int, share: float) -> Asked:
    """Rows of a JSONL file, of which a share of the pictures is held out, or of train.jsonl and val.jsonl in a folder.

    Args:
        tokens: of a picture.

    Raises:
        InputError: no rows, or none with one picture that fits.
    """
    parts = [data] if data.is_file() else [_part(data, _TRAINING), _part(data, _VALIDATION)]
    chat = chat_format(language.tokenizer, language.image_token_id)
    left_out: Counter[str] = Counter()
    found: list[list[tuple[str, LearntRow, Tensor, Path]]] = []
    for path in parts:
        table, rows = TablePart(path), []
        for entry in table.listing():
            try:
                key, record = table.record(entry)
                rows.append((key, *_asked(key, record, path.parent, chat, tokens)))
            except BadSample as error:
                left_out[error.reason] += 1
        found.append(rows)
    if len(found) == 1:
        contents = {path: content_hash(path) for *_, path in found[0]}  # copies of a picture stay on one side
        held = set(held_contents(contents.values(), share))
        found = [[row for row in found[0] if (contents[row[3]] in held) is out] for out in (False, True)]
    if not found[0] or not found[1]:
        told = ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "nothing left out"
        raise InputError(
            f"{data}: {len(found[0])} rows to train on and {len(found[1])} to measure ({told}); expected rows with one "
            "image each, conversations, and at least two different images"
        )
    both = [*found[0], *found[1]]
    _, learnt, exact, pictures = zip(*both, strict=True)
    return Asked(learnt, exact, pictures, len(found[0]), dict(left_out))


def _part(folder: Path, names: tuple[str, ...]) -> Path:
    found = next((folder / name for name in names if (folder / name).is_file()), None)
    if found is None:
        raise InputError(f"{folder}: expected a JSONL file of rows, or a folder with {names[0]} among its files")
    return found


def _asked(key: str, record: Mapping[str, Any], root: Path, chat: Chat, tokens: int) -> tuple[LearntRow, Tensor, Path]:
    try:
        names = media_names(record)
        if len(names) != 1 or record.get("video"):
            raise BadSample("not one picture", f"{key}: has {len(names)} images or a video; expected one image.")
        sample = encode(record, chat.tokenizer, [tokens], _MAX_LENGTH)
    except (InputError, TypeError) as error:
        raise BadSample("malformed row", f"{key}: {error}") from error
    path = root / names[0]
    if not path.is_file():
        raise BadSample("missing media", f"{key}: {path}: there is no such file.")
    row = LearntRow(key, torch.tensor(sample["input_ids"]), torch.tensor(sample["labels"]), None)
    return row, _decisive(row, chat), path


def _decisive(row: LearntRow, chat: Chat) -> Tensor:
    """Which predicted tokens are of answers or of the token that ends them, bool (K,); other marks are not."""
    learnt = row.labels != -100
    starts = (learnt & ~F.pad(learnt[:-1], (1, 0))).nonzero().flatten().tolist()
    ends = (learnt & ~F.pad(learnt[1:], (0, 1))).nonzero().flatten().tolist()
    before = len(chat.opening("assistant")) + len(chat.tokenizer.encode(chat.lead))
    wanted = torch.zeros_like(learnt)
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        behind = len(chat.close) - 1
        if number == len(starts) - 1 and chat.end and row.labels[end] == chat.end[-1]:
            behind += len(chat.end)
        wanted[start + before : end + 1 - behind] = True
    return wanted[learnt][-int(learnt[1:].sum()) :]


def _features(model: Perception, asked: Asked, config: SweepConfig, folder: Path | None, report: Report) -> TokenStore:
    transform = from_config(model.preprocess)

    def read(number: int) -> tuple[Tensor, None]:
        return transform.pixels(load_image(asked.pictures[number])), None

    digest = hashlib.sha256()
    for path in asked.pictures:
        digest.update(f"{path.resolve()}\0{path.stat().st_size}\0{path.stat().st_mtime_ns}\n".encode())
    encoder = dense_encoder(model, config.indices(model))
    key = features_key(model, encoder, digest.hexdigest(), "patches")
    pictures = Pictures(len(asked.pictures), key, read)
    size = model.preprocess.image_size
    return compute(encoder, pictures, size, "patches", config.limits, folder, config.batch_size or 8, report)


class _Study:
    """Projectors side by side, as many together as memory allows."""

    def __init__(self, model: Perception, store: TokenStore, asked: Asked, language: Language, pooling: int) -> None:
        self.model, self.store, self.asked, self.language, self.pooling = model, store, asked, language, pooling
        self.table: nn.Embedding = language.model.get_input_embeddings()  # type: ignore[operator]

    def run(self, training: list[int], measured: list[int], config: SweepConfig, report: Report) -> Floats:
        """Statistics of the measured rows, (L, N, 3): loss, predicted tokens, whether exact."""
        longest = max(len(row.input_ids) for row in self.asked.rows)
        blocks = int(self.language.text.get("num_hidden_layers", 12))
        weight = _BATCH * longest * blocks * self.table.embedding_dim * _KEPT
        layers, found = self.store.shape.layers, []
        parts = list(groups(layers, weight, self.model.device))
        for number, part in enumerate(parts):

            def told(done: int, of: int, before: int = number) -> None:
                report("projectors", before * of + done, len(parts) * of)

            self.model._settle()  # threads: the CPUs that are free now
            found.append(self._group(part, training, measured, config, told))
        return np.concatenate(found)

    def _group(self, part: slice, training: list[int], measured: list[int], config: SweepConfig, told: Any) -> Floats:
        norm = standard_of(self._tokens(training[k : k + _BATCH], part) for k in range(0, len(training), _BATCH))
        probe = self._projectors(part.stop - part.start, config.seed)

        def losses(rows: list[int]) -> Tensor:
            sums = self._measure(probe, norm(self._tokens(rows, part)), rows)
            return torch.stack([layer[:, 0].sum() / layer[:, 1].sum() for layer in sums])

        fit(probe, losses, training, config.probe(_BATCH, config.lr, _LEAST_STEPS), told)
        with torch.no_grad():
            chunks = [measured[k : k + _BATCH] for k in range(0, len(measured), _BATCH)]
            scores = [torch.stack(self._measure(probe, norm(self._tokens(rows, part)), rows)) for rows in chunks]
        return torch.cat(scores, dim=1).double().cpu().numpy()

    def _tokens(self, rows: list[int], part: slice) -> Tensor:
        return self.store.tokens(rows, part).to(self.model.device)  # l, B, T, W

    def _projectors(self, count: int, seed: int) -> nn.ModuleList:
        """Projectors that all begin alike, with outputs of the size of words."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            first = Projector(self.store.shape.width, self.table.embedding_dim, self.pooling)
            first.reset_parameters()
        with torch.no_grad():
            spread = float(self.table.weight.float().std()) / self.table.embedding_dim**-0.5
            last = first.projector[2]
            assert isinstance(last, nn.Linear)
            last.weight.mul_(spread)
            last.bias.mul_(spread)
        copies = [Projector(self.store.shape.width, self.table.embedding_dim, self.pooling) for _ in range(count)]
        for copy in copies:
            copy.load_state_dict(first.state_dict())
        return nn.ModuleList(copies).to(self.model.device)

    def _measure(self, probe: nn.ModuleList, tokens: Tensor, rows: list[int]) -> list[Tensor]:
        """Of each layer (B, 3): loss, predicted tokens and whether exact, of each row."""
        batch = pack([self.asked.rows[row] for row in rows]).to(self.model.device)
        words = self.table(batch.input_ids)  # L, D
        places = (batch.input_ids == self.language.image_token_id)[:, None]
        return [
            self._of_layer(words.masked_scatter(places, projector(features).flatten(0, 1).to(words.dtype)), batch, rows)
            for projector, features in zip(probe, tokens, strict=True)
        ]

    def _of_layer(self, embeds: Tensor, batch: Pack, rows: list[int]) -> Tensor:
        logits = packed_logits(self.language.model, embeds, batch).float()
        losses = F.cross_entropy(logits, batch.targets, reduction="none")
        decisive = torch.cat([self.asked.exact[row] for row in rows]).to(losses.device)
        wrong = (logits.argmax(dim=1) != batch.targets) & decisive
        counts = [len(self.asked.exact[row]) for row in rows]
        figures = [
            torch.stack((loss.sum(), loss.new_tensor(len(loss)), (~bad.any()).to(loss.dtype)))
            for loss, bad in zip(losses.split(counts), wrong.split(counts), strict=True)
        ]
        return torch.stack(figures)
