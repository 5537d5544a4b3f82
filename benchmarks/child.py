"""What `common.fresh` runs: whole small programs, from the imports to the first result. Heavy imports stand inside.

Each is what a careful user of that library would write; the threads are those of the environment.
"""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.names import OPEN_CLIP_NAMES, SIZES, TIMM_NAMES


def first_image_midsight(folder: str, name: str, picture: str) -> list[float]:
    """From nothing to the embedding of one picture."""
    import midsight

    return midsight.load(Path(folder) / "midsight").embed_images(picture)[0].tolist()


def first_image_timm(folder: str, name: str, picture: str) -> list[float]:
    """The same by timm, which needs the vision tower only."""
    import torch
    from PIL import Image
    from timm.data import create_transform, resolve_model_data_config

    model = timm_tower(folder, name)
    published = {"crop_mode": "squash", "interpolation": "bilinear"}
    transform = create_transform(**resolve_model_data_config(model) | published, is_training=False)
    with torch.inference_mode(), Image.open(picture) as image:
        return _unit(model(transform(image.convert("RGB"))[None])[0])


def first_image_open_clip(folder: str, name: str, picture: str) -> list[float]:
    """The same by open_clip, with the pair's preprocessing named, which it does not know without its own weights."""
    import torch
    from PIL import Image

    model = _open_clip(folder, name)
    with torch.inference_mode(), Image.open(picture) as image:
        return _unit(model.encode_image(open_clip_transform(SIZES[name])(image)[None])[0])


def tower_midsight(folder: str, name: str, precision: str, batch: int) -> list[float]:
    """One pass over a batch of noise."""
    import torch

    from midsight import pe

    model = pe.VisionTransformer.from_config(name, pretrained=True, checkpoint_path=f"{folder}/midsight")
    model.pack(torch.float32 if precision == "fp32" else torch.bfloat16)
    with torch.inference_mode():
        return _unit(model(_noise(name, batch))[0])


def tower_timm(folder: str, name: str, precision: str, batch: int) -> list[float]:
    """One pass over a batch of noise; bfloat16 weights where that is asked for."""
    import torch

    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    model = timm_tower(folder, name).to(dtype)
    with torch.inference_mode():
        return _unit(model(_noise(name, batch).to(dtype))[0])


def texts_midsight(folder: str, name: str, precision: str, texts: list[str]) -> list[float]:
    """A few captions."""
    import midsight

    return midsight.load(Path(folder) / "midsight", dtype=precision).embed_texts(texts)[0].tolist()


def texts_open_clip(folder: str, name: str, precision: str, texts: list[str]) -> list[float]:
    """A few captions; bfloat16 weights where that is asked for."""
    import open_clip
    import torch

    model = _open_clip(folder, name).to(torch.float32 if precision == "fp32" else torch.bfloat16)
    with torch.inference_mode():
        return _unit(model.encode_text(open_clip.get_tokenizer(OPEN_CLIP_NAMES[name])(texts))[0])


def folder_midsight(folder: str, name: str, precision: str, pictures: str) -> list[float]:
    """A folder of JPEGs."""
    import midsight

    model = midsight.load(Path(folder) / "midsight", dtype=precision, threads=1)
    return model.embed_images(sorted(Path(pictures).glob("*.jpg")), batch_size=8)[0].tolist()


def folder_open_clip(folder: str, name: str, precision: str, pictures: str) -> list[float]:
    """The same by the usual loop."""
    import torch

    model = _open_clip(folder, name)
    loader = open_clip_loader(sorted(Path(pictures).glob("*.jpg")), SIZES[name], 8)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        return _unit(torch.cat([model.encode_image(batch) for batch in loader])[0])


def open_clip_transform(size: int) -> Any:
    """open_clip's transform as the published models need it."""
    from open_clip.transform import image_transform

    half = (0.5, 0.5, 0.5)
    return image_transform(size, is_train=False, mean=half, std=half, resize_mode="squash", interpolation="bilinear")


def open_clip_loader(paths: list[Path], size: int, batch: int) -> Any:
    """A DataLoader of transformed files without worker processes: on one CPU they only add work."""
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset

    transform = open_clip_transform(size)

    class Files(Dataset[Any]):
        def __len__(self) -> int:
            return len(paths)

        def __getitem__(self, index: int) -> Any:
            with Image.open(paths[index]) as image:
                return transform(image)

    return DataLoader(Files(), batch_size=batch, num_workers=0)


def first_answer_open_clip(folder: str, name: str, rows: str) -> list[str]:
    """From nothing to the files that words find among the rows of an index, without midsight."""
    import lancedb
    import open_clip
    import torch

    model = _open_clip(folder, name)
    with torch.inference_mode():
        vector = model.encode_text(open_clip.get_tokenizer(OPEN_CLIP_NAMES[name])(["a red bicycle"]), normalize=True)
    table = lancedb.connect(rows).open_table("rows")
    found = table.search(vector[0].numpy()).select(["path", "_distance"]).limit(10).to_list()
    return [row["path"] for row in found]


def timm_tower(folder: str, name: str) -> Any:
    """timm's tower with the weights of `Twins.save`."""
    import timm

    return timm.create_model(TIMM_NAMES[name], checkpoint_path=f"{folder}/timm.safetensors").eval()


def _open_clip(folder: str, name: str) -> Any:
    import open_clip

    return open_clip.create_model(OPEN_CLIP_NAMES[name], pretrained=f"{folder}/open_clip.safetensors").eval()


def _noise(name: str, batch: int) -> Any:
    import torch

    return torch.rand(batch, 3, SIZES[name], SIZES[name], generator=torch.Generator().manual_seed(1)) * 2 - 1


def _unit(embedding: Any) -> list[float]:
    values = embedding.float().numpy().astype(np.float64)
    return (values / np.linalg.norm(values)).tolist()


def jpeg_midsight(path: str, size: int) -> list[int]:
    """One photograph to a tensor."""
    from midsight.transforms import get_image_transform

    return list(get_image_transform(size)(path).shape)


def jpeg_open_clip(path: str, size: int) -> list[int]:
    """One photograph to a tensor."""
    from PIL import Image

    transform = open_clip_transform(size)
    with Image.open(path) as image:
        return list(transform(image).shape)


def tokens_midsight(texts: list[str]) -> list[int]:
    """Captions to ids."""
    from midsight.transforms import get_text_tokenizer

    return list(get_text_tokenizer(32)(texts).shape)


def tokens_open_clip(texts: list[str]) -> list[int]:
    """Captions to ids."""
    import open_clip

    return list(open_clip.get_tokenizer("PE-Core-T-16-384")(texts).shape)


def only_torch() -> None:
    """What nobody can avoid."""
    import torch  # noqa: F401


def video_midsight(path: str, count: int) -> list[int]:
    """A clip's frames."""
    from midsight.video import sample_frames

    return list(sample_frames(path, count).frames.shape)


def video_pyav(path: str, count: int) -> list[int]:
    """The same by PyAV alone, everything decoded."""
    import av

    with av.open(path) as container:
        container.streams.video[0].thread_type = "NONE"
        frames = list(container.decode(video=0))
        chosen = np.linspace(0, len(frames) - 1, count).round().astype(int)
        return list(np.stack([frames[i].to_ndarray(format="rgb24") for i in chosen]).shape)
