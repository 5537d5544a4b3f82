"""From a name, a folder or a file to a `Perception`."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from midsight.api.perception import Perception
from midsight.checkpoints import EMBEDDED, Pretrained, identity, load_pretrained, open_pretrained, vision_tower
from midsight.configs import PreprocessConfig
from midsight.errors import ConfigError
from midsight.pages import cast
from midsight.pe import CLIP, VisionTransformer

Dtype = Literal["auto", "fp32", "bf16"]


def load(
    name_or_path: str | Path | None = None,
    device: str | torch.device = "auto",
    dtype: Dtype = "auto",
    layer: int | None = None,
    *,
    revision: str | None = None,
    image_size: int | None = None,
    threads: int | None = None,
    graphs: bool = False,
) -> Perception:
    """A model ready to embed, classify and look inside.

    Args:
        name_or_path: a published name ("PE-Core-L14-336"), a folder, a weight file, or a Hugging Face repository id.
            None, and "embedded", is the small model that comes with the package and needs no download;
            "embedded-spatial" is its PE-Spatial, for dense tasks.
        device: "cpu", "cuda", "mps" or a torch device; "auto" takes the best that is there.
        dtype: "fp32" (also "auto") is exact; "bf16" computes in bfloat16 and keeps the residual stream in float32.
        layer: keep the vision tower up to this block only (0-based, negative from the end); see `Perception`.
        revision: branch, tag or commit of a repository.
        image_size: side of the square that pictures are resized to, a multiple of the patch size; None is what the
            checkpoint was trained with.
        threads: CPU threads for the encoder. None keeps to OMP_NUM_THREADS where it is set, and otherwise follows the
            machine: before each batch it takes the CPUs that this process may use and that are not busy.
        graphs: on CUDA, run small batches as CUDA graphs, for answers to one picture or text at a time. Not the default
            yet: an earlier form of them crashed beside `torch.compile(mode="reduce-overhead")`; its cause is mended,
            which no GPU has confirmed so far. While a shape comes for the second time, no other code of the process
            may compute on the GPU.

    Raises:
        UnknownModelError: neither a file nor a repository nor a published name; the nearest names are suggested.
        CheckpointError: weights that are missing, cut or foreign; no network.
        ConfigError: a device, dtype, size or number of threads that cannot be.
        LayerError: a layer that the tower does not have.
    """
    where = pick_device(device)
    if dtype not in ("auto", "fp32", "bf16"):
        raise ConfigError(f"dtype must be auto, fp32 or bf16, got {dtype!r}")
    if dtype == "bf16" and where.type not in ("cpu", "cuda"):
        raise ConfigError(f"bf16 is offered on cpu and cuda, not on {where.type}; take dtype='fp32'")
    fixed = fixed_threads(threads)
    found = load_pretrained(EMBEDDED) if name_or_path is None else open_pretrained(name_or_path, revision=revision)
    preprocess = _with_size(found, image_size)
    model = _build(found, layer).to(where)
    kept = (model.visual if isinstance(model, CLIP) else model).layers
    return Perception(
        model,
        preprocess,
        name=found.name or Path(str(name_or_path)).stem,
        layer=None if layer is None else kept - 1,
        threads=fixed,
        graphs=graphs,
        pack=torch.bfloat16 if dtype == "bf16" else torch.float32 if where.type in ("cpu", "cuda") else None,
        identity=lambda: identity(found.state_dict, preprocess, layer),
    )


def pick_device(device: str | torch.device) -> torch.device:
    """The device that is meant.

    Raises:
        ConfigError: no such device, or not on this machine.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        where = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ConfigError(f"device must be auto, cpu, cuda, cuda:0, mps or such, got {device!r}") from error
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(where.type, False) or (where.type == "cuda" and (where.index or 0) >= torch.cuda.device_count()):
        raise ConfigError(f"there is no device {str(where)!r} on this machine; take 'auto' or 'cpu'")
    return where


def fixed_threads(threads: int | None) -> int | None:
    """The number to keep to, or None to follow the machine."""
    if threads is None:
        return torch.get_num_threads() if "OMP_NUM_THREADS" in os.environ else None
    if threads < 1:
        raise ConfigError(f"threads must be at least 1, got {threads}")
    return threads


def _with_size(found: Pretrained, image_size: int | None) -> PreprocessConfig:
    if image_size is None:
        return found.preprocess
    patch = found.vision.patch_size
    if image_size < patch or image_size % patch:
        lower = max(1, image_size // patch) * patch
        raise ConfigError(
            f"image_size {image_size} is not a multiple of the patch size {patch}; take {lower} or {lower + patch}"
        )
    return replace(found.preprocess, image_size=image_size)


def _build(found: Pretrained, layer: int | None) -> CLIP | VisionTransformer:
    """The module in float32; the vision tower alone where a layer is asked for."""
    weights = found.state_dict if layer is None or found.text is None else vision_tower(found.state_dict)
    with torch.device("meta"):
        pair = found.text is not None and layer is None
        model = CLIP(found.vision, found.text) if pair and found.text else VisionTransformer(found.vision)
    model.load_state_dict({key: cast(tensor, torch.float32) for key, tensor in weights.items()}, assign=True)
    model.eval().requires_grad_(False)
    if layer is not None and isinstance(model, VisionTransformer):
        model.truncate(layer)
    return model
