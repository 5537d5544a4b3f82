"""The stages in order: words, text tower, trunk features, head, vision tower if asked, calibration, card."""

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from midsight import threads
from midsight.checkpoints import load_pretrained, save_pretrained
from midsight.configs import PreprocessConfig
from midsight.data import packaged
from midsight.data.crops import CropMixer
from midsight.data.packaged import training_drawings
from midsight.errors import TrainingError
from midsight.files import atomic_write
from midsight.pe import CLIP, TextTransformer, VisionTransformer
from midsight.train.config import read_recipe
from midsight.train.core import train_core
from midsight.train.embedded import card, curves, features, head, texts, tower, trunk, vocabulary
from midsight.train.embedded.recipe import Recipe
from midsight.train.embedded.samples import write_samples
from midsight.train.embedded.sentences import SentenceEncoder
from midsight.train.embedded.teacher import DRAWING, save_teacher
from midsight.train.revision import revision
from midsight.transforms import get_text_tokenizer
from midsight.transforms.tokenizer import END_ID

VISION_RECIPE = "core_embedded"
TEACHER = "midsight.train.embedded.teacher:open_words:{}"
TABLE = "token_embedding.weight"
_CALIBRATION = 1000  # pictures behind the training pictures, for the logit scale
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Material:
    """What every stage works on."""

    trunk: trunk.Trunk
    vocabulary: vocabulary.Vocabulary
    mixer: CropMixer


def train(config: Recipe, work: Path, out: Path, device: str = "cpu", workers: int = 1) -> None:
    """Train all of it into the folder `out`; finished stages found in `work` are used again.

    Args:
        device: of the text tower's training; the vision tower's is `run.device` of its recipe.
        workers: processes that make training pictures for the vision tower.

    Raises:
        TrainingError: the vision tower's training was stopped; the same call goes on.
    """
    threads.settle(1)
    root = work / "data"
    drawings = training_drawings(root)
    mixer = CropMixer(packaged.photographs(root), packaged.textures(root), drawings, config.mixture, config.seed)
    words = vocabulary.build(root, drawings, config.words, config.phrases, config.seed)
    material = Material(trunk.load_trunk(root), words, mixer)
    text = _stage(work / "text.pt", config, lambda: _text_tower(config, work, words, torch.device(device)))
    vision = _stage(work / "head.pt", config, lambda: _head(config, material, work))
    if config.vision:
        vision.load_state_dict(_vision(config, material, vision, text, work, workers))
    save(config, material, vision, text, out)
    curves.draw(out / card.CURVES, {"Text tower": work / "text.jsonl", "Spare units": work / "head.jsonl"})
    card.write(out, config, packaged.photographs(root), packaged.furniture(root))


def names_of_photographs(words: vocabulary.Vocabulary) -> list[str]:
    """The texts that photographs come with: names of one or two words."""
    return [name for name in words.texts[: words.names] if name.count(" ") < 2]


def _text_tower(config: Recipe, work: Path, words: vocabulary.Vocabulary, device: torch.device) -> TextTransformer:
    torch.manual_seed(config.seed)
    tokenizer = get_text_tokenizer(config.text.context_length)
    model = texts.new_tower(config.text, config.words.width)
    spelled = [tokenizer.decode([i]).strip() or "." for i in range(END_ID - 1)]
    texts.start_table(model, SentenceEncoder(work / "data")(spelled), config.text.table_std)
    pools = (_flat(words.class_names), words.broad, _flat(words.captions))
    data = texts.material(tokenizer, words.texts, words.targets, words.words.classes, pools, config.text.longest)
    report, kept = curves.recorder(work / "text.jsonl"), work / "text.state"
    threads.settle()
    trained = texts.train_text(config.text, model, data.to(device), config.seed, report, kept)
    threads.settle(1)
    return trained


def _flat(groups: list[list[int]]) -> Tensor:
    return torch.tensor(sorted({row for group in groups for row in group}))


def _head(config: Recipe, material: Material, work: Path) -> VisionTransformer:
    """The vision tower with its pooling fitted and its blocks as they start."""
    seen = features.of_samples(material.trunk.stem, material.mixer, config.samples, work / "features")
    vision = tower.new_tower(
        config.tower, material.vocabulary.words, material.trunk, seen.pooled[seen.drawings < 0], config.mixture.size
    )
    report = curves.recorder(work / "head.jsonl")
    head.fit_head(config.head, vision, material.trunk, material.vocabulary, seen, config.seed, report)
    return vision.eval()


def _start(config: Recipe, vision: VisionTransformer, text: TextTransformer, folder: Path) -> Path:
    """The pair that the vision tower's training begins with, as a model folder."""
    pair = _pair(vision, text, 100.0)
    preprocess = PreprocessConfig(image_size=config.mixture.size)
    return save_pretrained(
        folder, pair.state_dict(), name="embedded-start", vision=vision.config, text=text.text_config,
        preprocess=preprocess, metadata={"seed": config.seed, "revision": revision()},
    )  # fmt: skip


def _pair(vision: VisionTransformer, text: TextTransformer, scale: float) -> CLIP:
    pair = CLIP(vision.config, text.text_config).eval()
    pair.visual.load_state_dict(vision.state_dict())
    pair.load_state_dict(text.state_dict(), strict=False)
    with torch.no_grad():
        pair.logit_scale.copy_(torch.tensor(scale).log())
    return pair


def _teacher(config: Recipe, material: Material, folder: Path) -> None:
    """Places of all texts that the training pictures come with."""
    words = material.vocabulary
    position = {text: row for row, text in enumerate(words.texts)}
    captions = sorted({words.texts[row] for rows in words.captions for row in rows})
    names = names_of_photographs(words)
    said = [*names, *(DRAWING.format(caption) for caption in captions)]
    rows = [position[text] for text in (*names, *captions)]
    tokenizer = get_text_tokenizer(config.text.context_length)
    drawings = torch.arange(len(said)) >= len(names)
    save_teacher(folder, material.trunk, words.words, tokenizer(said), words.targets[rows], drawings)


def _vision(
    config: Recipe, material: Material, vision: VisionTransformer, text: TextTransformer, work: Path, workers: int
) -> dict[str, Tensor]:
    """The vision tower's weights behind its training: `midsight train core core_embedded`."""
    write_samples(material.mixer, names_of_photographs(material.vocabulary), config.samples, work / "samples", workers)
    _teacher(config, material, work / "teacher")
    start, teacher = _start(config, vision, text, work / "start"), TEACHER.format(work / "teacher")
    settings = {"data.source": work / "samples", "model.start": start, "loss.teacher": teacher}
    recipe = read_recipe(VISION_RECIPE, [f"{key}={value}" for key, value in settings.items()])
    outcome = train_core(recipe, work / "vision", resume=True, report=lambda record: log.info("vision: %s", record))
    if not outcome.finished or outcome.model is None:
        raise TrainingError(f"{work / 'vision'}: stopped after step {outcome.step}; the same command goes on")
    state = load_pretrained(outcome.model, dtype=torch.float32).state_dict
    return {key.removeprefix("visual."): value for key, value in state.items() if key.startswith("visual.")}


@torch.inference_mode()
def calibrate(material: Material, pair: CLIP, first: int, seed: int) -> float:
    """The logit scale under which probabilities over eight class names fit the trunk's best.

    Args:
        first: number of the first sample of the mixer that nothing was trained on.
    """
    samples = [material.mixer.sample(first + number) for number in range(_CALIBRATION)]
    pixels = np.stack([sample.pixels for sample in samples if sample.drawing < 0])
    answer = material.trunk.logits(features.pooled(material.trunk.stem, pixels))
    parts = (features.normalised(pixels[start : start + 32]) for start in range(0, len(pixels), 32))
    images = [F.normalize(pair.encode_image(part), dim=-1) for part in parts]
    words = material.vocabulary
    tokenizer = get_text_tokenizer(pair.context_length)
    flat = sorted({row for rows in words.class_names for row in rows})
    encoded = texts.encode_all(pair, tokenizer, [words.texts[row] for row in flat])
    at = {row: number for number, row in enumerate(flat)}
    classes = torch.stack([encoded[[at[row] for row in rows]].mean(0) for rows in words.class_names])
    generator = torch.Generator().manual_seed(seed)
    others = torch.rand(answer.shape, generator=generator).scatter(1, answer.argmax(1, keepdim=True), 2.0)
    rows = others.topk(8).indices  # the trunk's best and seven by lot
    likeness = (torch.cat(images) @ F.normalize(classes, dim=-1).T).gather(1, rows)
    target = answer.gather(1, rows).softmax(-1)
    scales = [float(s) for s in range(5, 101)]
    losses = [-(target * (s * likeness).log_softmax(-1)).sum(-1).mean().item() for s in scales]
    best = scales[losses.index(min(losses))]
    log.info("calibrated logit scale %.0f (cross-entropy %.3f)", best, min(losses))
    return best


def save(config: Recipe, material: Material, vision: VisionTransformer, text: TextTransformer, out: Path) -> None:
    """The pair as it ships: half precision, and the token table, which is most of the text tower, in 8-bit floats."""
    scale = calibrate(material, _pair(vision, text, 1.0), config.samples, config.seed)
    pair = _pair(vision, text, scale)
    state = {key: value.half() if value.ndim else value for key, value in pair.state_dict().items()}
    state[TABLE] = state[TABLE].to(torch.float8_e4m3fn)
    metadata = {"seed": config.seed, "revision": revision(), "recipe": asdict(config)}
    if config.vision:
        metadata["vision_recipe"] = asdict(read_recipe(VISION_RECIPE))
    save_pretrained(
        out, state, name="embedded", vision=vision.config, text=text.text_config,
        preprocess=PreprocessConfig(image_size=config.mixture.size), metadata=metadata,
    )  # fmt: skip


def _stage(path: Path, config: Recipe, make: Callable[[], nn.Module]) -> Any:
    """The module of a finished stage, or made now and kept. Stages of other settings are made anew."""
    name = path.stem
    wanted: dict[str, Any] = {"seed": config.seed, "words": asdict(config.words), name: asdict(getattr(config, name))}
    if name == "head":
        wanted |= {"samples": config.samples, "mixture": asdict(config.mixture), "tower": asdict(config.tower)}
    note = path.with_suffix(".json")
    if path.exists() and note.exists() and json.loads(note.read_text()) == wanted:
        log.info("%s: taken from %s", name, path)
        return torch.load(path, weights_only=False)
    made = make()
    with atomic_write(path) as file:
        torch.save(made, file)
    note.write_text(json.dumps(wanted))
    path.with_suffix(".state").unlink(missing_ok=True)
    return made
