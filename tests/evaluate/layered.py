"""A tower whose middle layer is the best by construction, and data of every layout that it can tell apart.

Pictures are colours under strong noise of pixels. The first channels of a token hold the mean colour of its patch, the
others random sums of its noise. Block 1 makes the colour large; block 2 adds noise so large that float32 has no digits
left for the colour.
"""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from midsight import checkpoints, pe
from midsight.configs import PEConfig, PreprocessConfig
from midsight.images.labels import write_depth, write_labels

MIDDLE, LAST = 1, 2  # layer_idx
COLOURS = {"blue": (90, 100, 150), "green": (90, 150, 100), "red": (150, 90, 100)}
_SIGNAL = 3


def save_tower(folder: Path, cls_token: bool = False, seed: int = 0) -> Path:
    """The tower, in a folder for `midsight.load`; pictures of 32 pixels, patches of 8."""
    config = PEConfig(
        patch_size=8, width=48, layers=3, heads=3, mlp_ratio=2.0, output_dim=None, image_size=32, pool_type="none",
        use_ln_post=False, use_cls_token=cls_token,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tower = pe.VisionTransformer(config)
        _arrange(tower)
    state = tower.state_dict()
    return checkpoints.save_pretrained(
        folder, state, name="layered", vision=config, text=None, preprocess=PreprocessConfig(32)
    )


@torch.no_grad()
def _arrange(tower: pe.VisionTransformer) -> None:
    weight = tower.conv1.weight  # W, 3, 8, 8
    noise = torch.randn_like(weight)
    weight.copy_(noise - noise.mean(dim=(2, 3), keepdim=True))  # blind to the mean colour
    weight[:_SIGNAL] = 0
    for channel in range(_SIGNAL):
        weight[channel] = -1 / 64
        weight[channel, channel] = 2 / 64  # one colour against the others
    tower.positional_embedding.zero_()
    for block in tower.transformer.resblocks:
        block.attn.out_proj.weight.zero_()
        block.attn.out_proj.bias.zero_()
        block.mlp.c_fc.bias.zero_()
        block.mlp.c_proj.weight.zero_()
        block.mlp.c_proj.bias.zero_()
    # gelu(x) - gelu(-x) = x: an MLP that adds a multiple of the colour
    first, last = (tower.transformer.resblocks[layer].mlp for layer in (MIDDLE, LAST))
    first.c_fc.weight.zero_()
    for channel in range(_SIGNAL):
        first.c_fc.weight[2 * channel, channel] = 1
        first.c_fc.weight[2 * channel + 1, channel] = -1
        first.c_proj.weight[channel, 2 * channel] = 1000
        first.c_proj.weight[channel, 2 * channel + 1] = -1000
    last.c_fc.weight.normal_()
    last.c_fc.weight[:, :_SIGNAL] = 0
    last.c_proj.weight.normal_().mul_(1e10)


def pixels(labels: np.ndarray, dice: np.random.Generator) -> np.ndarray:
    """Label maps (H, W), the colours by number, to noisy pixels uint8 (H, W, 3)."""
    table = np.array(list(COLOURS.values()))
    noisy = table[labels] + dice.integers(-90, 91, (*labels.shape, 3))
    return noisy.clip(0, 255).astype(np.uint8)


def class_folder(folder: Path, each: int = 12, seed: int = 0) -> Path:
    """A folder for each colour."""
    dice = np.random.default_rng(seed)
    for number, name in enumerate(COLOURS):
        (folder / name).mkdir(parents=True)
        for k in range(each):
            Image.fromarray(pixels(np.full((32, 32), number), dice)).save(folder / name / f"{k}.png")
    return folder


def coco(folder: Path, each: int = 6) -> Path:
    """Annotations: each picture with a large object of its colour and a small one of another."""
    dice, images, annotations = np.random.default_rng(3), [], []
    folder.mkdir(parents=True)
    for k in range(each * len(COLOURS)):
        own = k % len(COLOURS)
        labels = np.full((32, 32), own)
        labels[:8, :8] = (own + 1) % len(COLOURS)
        Image.fromarray(pixels(labels, dice)).save(folder / f"{k}.png")
        images.append({"id": k, "file_name": f"{k}.png", "height": 32, "width": 32})
        for number, (box, label) in enumerate((([0, 0, 8, 8], (own + 1) % 3), ([0, 8, 32, 24], own))):
            annotations.append({"id": 2 * k + number, "image_id": k, "category_id": label, "bbox": box})
    categories = [{"id": number, "name": name} for number, name in enumerate(COLOURS)]
    path = folder / "annotations.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def dense_folder(folder: Path, what: str, count: int = 12) -> Path:
    """images, and masks (0 to 2) or depth (1, 3 and 5 m) of the same names."""
    dice = np.random.default_rng(1)
    for name in ("images", what):
        (folder / name).mkdir(parents=True)
    for k in range(count):
        labels = np.repeat(np.repeat(dice.integers(0, 3, (4, 4)), 8, axis=0), 8, axis=1)
        Image.fromarray(pixels(labels, dice)).save(folder / "images" / f"{k}.png")
        target = folder / what / f"{k}.png"
        if what == "masks":
            write_labels(target, labels)
        else:
            write_depth(target, 1.0 + 2.0 * labels)
    return folder


def davis(folder: Path) -> Path:
    """Two videos of five frames with squares that move a patch at a time."""
    dice = np.random.default_rng(2)
    for name in ("one", "two"):
        images, maps = folder / "JPEGImages/480p" / name, folder / "Annotations/480p" / name
        images.mkdir(parents=True)
        maps.mkdir(parents=True)
        for t in range(5):
            labels = np.zeros((64, 96), np.uint8)
            labels[16:48, 8 * t : 8 * t + 32] = 2
            Image.fromarray(pixels(labels, dice)).save(images / f"{t:05}.jpg", quality=95)
            write_labels(maps / f"{t:05}.png", labels // 2)
    (folder / "ImageSets/2017").mkdir(parents=True)
    (folder / "ImageSets/2017/val.txt").write_text("one\ntwo\n")
    return folder
