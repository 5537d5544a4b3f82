"""The head that tells things from surroundings by the tokens of the embedded PE-Spatial.

python -m midsight.train.embedded_spatial.things --out midsight/assets/embedded_spatial/heads/open_vocabulary

It knows no names: open-vocabulary segmentation asks it where the background is. Two outputs (surroundings, things), a
linear map of each token, trained on rendered scenes whose furniture is not in those that are measured, in all the sizes
in which segmentation looks at a picture.
"""

import argparse
import logging
import sys
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from midsight.api import dense_encoder, load
from midsight.errors import InputError, MidsightError
from midsight.evaluate.scene_probes import read_scenes
from midsight.files import atomic_write
from midsight.tasks.features import DenseEncoder
from midsight.tasks.heads import HeadConfig, LinearProbe
from midsight.tasks.saved import SavedHead, save_head
from midsight.tasks.segmentation import OpenConfig
from midsight.train.revision import revision

TEMPLATE = files("midsight.train.embedded_spatial") / "things.md"
_TRAINED_SIZE = 224  # of the embedded PE-Core, which the scales of `OpenConfig` are counted in
log = logging.getLogger("midsight.train.embedded_spatial.things")


@dataclass(frozen=True)
class ThingsConfig:
    """The fit."""

    scenes: int = 400  # 770 numbers need no more
    steps: int = 2000
    batch: int = 8192  # tokens
    lr: float = 1e-3
    weight_decay: float = 1e-2
    seed: int = 0
    scales: tuple[float, ...] = OpenConfig().scales


def main() -> int:
    """Exit code: 0, or 1 where something cannot be had or written."""
    parser = argparse.ArgumentParser("python -m midsight.train.embedded_spatial.things", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for weights, configuration and card")
    parser.add_argument("--scenes", type=Path, default=Path("runs/spatial/train"), help="shards of the scene engine")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        model = load("embedded-spatial", device="cpu", threads=1)
        make(dense_encoder(model), given.scenes, given.out, ThingsConfig())
    except MidsightError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def make(encoder: DenseEncoder, scenes: Path, out: Path, config: ThingsConfig) -> None:
    """Trains the head and writes it with its card.

    Raises:
        InputError: no scenes, or scenes without labels.
        OutputError: `out` cannot be written.
    """
    tokens, things = gather(encoder, scenes, config)
    head, loss = fit(tokens, things, config)
    trained = {
        "scenes": config.scenes, "tokens": len(tokens), "loss": round(loss, 4), "recipe": asdict(config),
        "revision": revision(),
    }  # fmt: skip
    size = round(max(config.scales) * _TRAINED_SIZE)
    saved = SavedHead("segmentation", head.config, encoder.describe(), size, ("surroundings", "things"), None, trained)
    save_head(out, saved, head.state_dict())
    recipe = "\n".join(f"{key} = {value!r}" for key, value in asdict(config).items())
    text = TEMPLATE.read_text(encoding="utf-8").format(
        scenes=config.scenes,
        sizes=len(config.scales),
        tokens=len(tokens),
        loss=f"{loss:.3f}",
        recipe=recipe,
        revision=trained["revision"],
    )
    with atomic_write(out / "README.md") as file:
        file.write(text.encode())


def gather(encoder: DenseEncoder, scenes: Path, config: ThingsConfig) -> tuple[Tensor, Tensor]:
    """Tokens float32 (N, C) of the scenes in all sizes, and whether the middle of each shows a thing, bool (N,)."""
    tokens, things = [], []
    for number, scene in enumerate(read_scenes(scenes)):
        if number == config.scenes:
            break
        for scale in config.scales:
            count = max(1, round(scale * _TRAINED_SIZE / encoder.patch_size))
            images = encoder.images(scene.pixels, count * encoder.patch_size, count * encoder.patch_size)
            tokens.append(encoder(images[None])[0][0].flatten(1).T.half())  # count * count, C
            middles = ((np.arange(count) + 0.5) * len(scene.ids) / count).astype(int)
            things.append(torch.from_numpy(scene.ids[np.ix_(middles, middles)] > 0).flatten())
        if number % 50 == 0:
            log.info("scene %d", number)
    if len(tokens) < config.scenes * len(config.scales):
        raise InputError(f"{scenes}: holds {len(tokens) // len(config.scales)} scenes; expected {config.scenes}")
    return torch.cat(tokens).float(), torch.cat(things)


def fit(tokens: Tensor, things: Tensor, config: ThingsConfig) -> tuple[LinearProbe, float]:
    """A linear head, and its mean loss over the last hundred steps; inputs are standardised while it is fitted."""
    generator = torch.Generator().manual_seed(config.seed)
    mean, std = tokens.mean(dim=0), tokens.std(dim=0).clamp(min=1e-6)
    weight, bias = torch.zeros(2, tokens.shape[1], requires_grad=True), torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.AdamW([weight, bias], config.lr, weight_decay=config.weight_decay)
    losses = []
    for _ in range(config.steps):
        rows = torch.randint(len(tokens), (config.batch,), generator=generator)
        loss = F.cross_entropy(F.linear((tokens[rows] - mean) / std, weight, bias), things[rows].long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    head = LinearProbe(HeadConfig(tokens.shape[1], 2, "linear")).requires_grad_(False)
    head.linear.weight.copy_((weight / std)[:, :, None, None])
    head.linear.bias.copy_(bias - (weight / std) @ mean)  # type: ignore[union-attr]
    return head, float(np.mean(losses[-100:]))


if __name__ == "__main__":
    sys.exit(main())
