"""The stages in order: pictures, texts, space, text tower, vision tower, calibration, card."""

import json
import logging
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from midsight.checkpoints import save_pretrained
from midsight.configs import PreprocessConfig
from midsight.data import packaged
from midsight.data.crops import CropMixer
from midsight.data.packaged import Picture
from midsight.pe import CLIP, TextTransformer, VisionTransformer
from midsight.train.embedded import card, features, space, texts, tower, trunk, vocabulary
from midsight.train.embedded.recipe import Recipe
from midsight.train.embedded.sentences import SentenceEncoder
from midsight.transforms import get_text_tokenizer

_CALIBRATION = 1000  # last samples of the cache, kept out of training
Module = TypeVar("Module", bound=torch.nn.Module)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Material:
    """What every stage works on."""

    trunk: trunk.Trunk
    vocabulary: vocabulary.Vocabulary
    cache: features.Cache  # training samples
    held: features.Cache  # samples for calibration
    pooled: Tensor  # stem features of the training samples (N, 1280)
    shown: Tensor  # the drawing each shows (N,), -1 for none


def train(config: Recipe, work: Path, out: Path) -> None:
    """Train all of it into the folder `out`; finished stages found in `work` are used again."""
    torch.set_num_threads(1)
    material = _material(config, work)
    vocab = material.vocabulary
    tokenizer = get_text_tokenizer(config.text.context_length)
    shared = _stage(work / "space.pt", config, lambda: space.train_space(
        config.space, material.trunk, vocab, material.pooled, material.shown, config.seed
    ))  # fmt: skip
    text = _stage(work / "text.pt", config, lambda: _text_tower(config, work, vocab, shared))
    names = texts.encode_all(text, tokenizer, vocab.texts[: vocab.names])
    pusher = space.Pusher(material.trunk, material.pooled[material.shown < 0])

    def train_vision() -> VisionTransformer:
        vision = tower.new_tower(config.tower, shared, material.trunk, config.mixture.size)
        tower.train_tower(
            config.tower, vision, material.trunk, shared, vocab, names, material.cache, pusher, config.seed
        )
        return vision

    vision = _stage(work / "tower.pt", config, train_vision)
    scale = calibrate(vision, material, names, config.seed)
    _save(config, vision, text, scale, out)
    card.write(out, config, packaged.photographs(work / "data"), packaged.furniture(work / "data"))


def _material(config: Recipe, work: Path) -> Material:
    root = work / "data"
    drawings = training_drawings(root)
    net = trunk.load_trunk(root)
    mixer = CropMixer(packaged.photographs(root), packaged.textures(root), drawings, config.mixture, config.seed)
    cache = features.fill(net.stem, mixer, config.samples, work / "cache")
    net.stem.to(memory_format=torch.contiguous_format)
    used = features.Cache(cache.maps[:-_CALIBRATION], cache.drawings[:-_CALIBRATION])
    held = features.Cache(cache.maps[-_CALIBRATION:], cache.drawings[-_CALIBRATION:])
    vocab = vocabulary.build(root, drawings, config.phrases, config.seed)
    shown = torch.from_numpy(used.drawings.copy()).long()
    return Material(net, vocab, used, held, features.pooled(net.stem, used.maps), shown)


def training_drawings(root: Path) -> list[Picture]:
    """All captioned drawings that may be trained on, vector ones as PNG."""
    emoji = packaged.emoji(root)
    svgs = [picture.path for picture in emoji if picture.path.suffix == ".svg"]
    drawn = dict(zip(svgs, packaged.rasterise(svgs, root / "rasterised/fluentui-emoji"), strict=True))
    emoji = [replace(picture, path=drawn.get(picture.path, picture.path)) for picture in emoji]
    return emoji + packaged.clip_art(root) + packaged.furniture(root)


def _text_tower(config: Recipe, work: Path, vocab: vocabulary.Vocabulary, shared: space.Space) -> TextTransformer:
    torch.manual_seed(config.seed)
    tokenizer = get_text_tokenizer(config.text.context_length)
    model = texts.new_tower(config.text, config.space.width, SentenceEncoder(work / "data"), tokenizer)
    batches = texts.TextBatches(config.text, vocab, shared, torch.Generator().manual_seed(config.seed))
    return texts.train_text(config.text, model, tokenizer, batches)


@torch.inference_mode()
def calibrate(vision: VisionTransformer, material: Material, names: Tensor, seed: int) -> float:
    """The logit scale under which probabilities over eight class names fit the trunk's best, on samples held out."""
    maps = features.expand(
        material.trunk.stem, torch.from_numpy(material.held.maps[material.held.drawings < 0]).float()
    )
    image = torch.nn.functional.normalize(tower.forward_maps(vision, maps), dim=-1)
    answer = material.trunk.logits(maps.mean((2, 3)))
    classes = space.class_matrix(names, material.vocabulary)
    generator = torch.Generator().manual_seed(seed)
    others = torch.rand(answer.shape, generator=generator).scatter(1, answer.argmax(1, keepdim=True), 2.0)
    rows = others.topk(8).indices  # the trunk's best and seven by lot
    likeness = (image @ classes.T).gather(1, rows)
    target = answer.gather(1, rows).softmax(-1)
    scales = [float(s) for s in range(5, 101)]
    losses = [-(target * (s * likeness).log_softmax(-1)).sum(-1).mean().item() for s in scales]
    best = scales[losses.index(min(losses))]
    log.info("calibrated logit scale %.0f (cross-entropy %.3f)", best, min(losses))
    return best


def _save(config: Recipe, vision: VisionTransformer, text: TextTransformer, scale: float, out: Path) -> None:
    pair = CLIP(vision.config, text.text_config)
    pair.visual.load_state_dict(vision.state_dict())
    pair.load_state_dict(text.state_dict(), strict=False)
    with torch.no_grad():
        pair.logit_scale.copy_(torch.tensor(scale).log())
    save_pretrained(
        out,
        pair.state_dict(),
        name="embedded",
        vision=vision.config,
        text=text.text_config,
        preprocess=PreprocessConfig(image_size=config.mixture.size),
        metadata={"seed": config.seed, "revision": revision(), "recipe": asdict(config)},
        dtype=torch.float16,
    )


def revision() -> str:
    """The git revision of this source tree, with "+" if files differ from it; "unknown" outside a repository."""
    folder = Path(__file__).parent
    commands = (["git", "rev-parse", "HEAD"], ["git", "status", "--porcelain", "--", str(folder.parent.parent)])
    try:
        head, changed = (
            subprocess.run(c, cwd=folder, capture_output=True, text=True, check=True).stdout.strip() for c in commands
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+" if changed else "")


def _stage(path: Path, config: Recipe, make: Callable[[], Module]) -> Module:
    """The module of a finished stage, or made now and kept. Stages of other settings are made anew."""
    name = path.stem
    wanted: dict[str, Any] = {"seed": config.seed, "samples": config.samples, name: asdict(getattr(config, name))}
    note = path.with_suffix(".json")
    if path.exists() and note.exists() and json.loads(note.read_text()) == wanted:
        log.info("%s: taken from %s", name, path)
        return torch.load(path, weights_only=False)
    made = make()
    torch.save(made, path)
    note.write_text(json.dumps(wanted))
    return made
