"""Tiny random models that every part of the suite may load, and a browser."""

import os
from pathlib import Path

import pytest
import torch

import midsight
from midsight import checkpoints, pe
from midsight.configs import PEConfig, PETextConfig, PreprocessConfig
from tests import dense_heads
from tests.browser import browser, hostile_name, tab, wrong  # noqa: F401

os.environ.pop("COLUMNS", None)  # pytest-xdist sets it, and tables would be folded

TINY_VISION = PEConfig(
    patch_size=8, width=48, layers=3, heads=3, mlp_ratio=2.0, output_dim=32, image_size=32, use_cls_token=True
)
TINY_TEXT = PETextConfig(context_length=16, width=32, heads=2, layers=2, output_dim=32)
TINY_DENSE = PEConfig(
    patch_size=8, width=48, layers=3, heads=3, mlp_ratio=2.0, output_dim=None, image_size=32, pool_type="none",
    use_ln_post=False, ls_init_value=0.1,
)  # fmt: skip


def save_tiny(folder: Path, seed: int, vision: PEConfig = TINY_VISION, text: PETextConfig | None = TINY_TEXT) -> Path:
    """A random model in a folder; other seeds give other identities."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = pe.CLIP(vision, text) if text is not None else pe.VisionTransformer(vision)
    preprocess = PreprocessConfig(image_size=vision.image_size)
    return checkpoints.save_pretrained(
        folder, model.state_dict(), name=folder.name, vision=vision, text=text, preprocess=preprocess
    )


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved pair of towers, a few hundred kilobytes apart from its vocabulary."""
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny", seed=0)


@pytest.fixture(scope="session")
def packed_folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The saved pair as the embedded model is stored: half precision, the token table in 8-bit floats."""
    found = checkpoints.load_pretrained(tiny_folder)
    state = {key: tensor.half() if tensor.ndim else tensor for key, tensor in found.state_dict.items()}
    state["token_embedding.weight"] = state["token_embedding.weight"].to(torch.float8_e4m3fn)
    return checkpoints.save_pretrained(
        tmp_path_factory.mktemp("models") / "packed", state, name="packed", vision=found.vision, text=found.text,
        preprocess=found.preprocess,
    )  # fmt: skip


@pytest.fixture(scope="session")
def dense_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved vision tower without pooling and without text, like PE-Lang and PE-Spatial."""
    return save_tiny(tmp_path_factory.mktemp("models") / "dense", seed=1, vision=TINY_DENSE, text=None)


@pytest.fixture(scope="session")
def tiny_model(tiny_folder: Path) -> midsight.Perception:
    """The saved pair, loaded."""
    return midsight.load(tiny_folder, device="cpu")


@pytest.fixture(scope="session")
def segment_head(dense_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random head for 5 classes over the saved dense tower; the last class has no name."""
    return dense_heads.save(tmp_path_factory.mktemp("heads") / "segment", dense_folder, "segmentation")


@pytest.fixture(scope="session")
def depth_head(dense_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random head for depth from 0.1 to 10 metres over the saved dense tower."""
    return dense_heads.save(tmp_path_factory.mktemp("heads") / "depth", dense_folder, "depth")


@pytest.fixture(scope="session")
def detector_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Mask R-CNN of 4 named classes, whose category ids have gaps."""
    return dense_heads.save_detector(tmp_path_factory.mktemp("heads") / "detector")
