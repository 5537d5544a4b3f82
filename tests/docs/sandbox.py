"""A place where the pages run: the demo's media in a folder, and stand-ins for the published weights.

Nothing is downloaded. A Hugging Face cache is made by hand, and its checkpoints hold random weights:

- PE-Core-T16-384 has its real shape (69.5 million parameters), for the command line and for Python;
- PE-Core-L14-336 is shrunk (its real weights are 2.7 GB): two narrow blocks for each tower, in `configs.MODELS` too. It
  keeps what the pages can see, its input size, its patches and its context length. That holds for Python blocks only,
  so a Bash block cannot name it.

Random weights show that the calls work, not that the answers are right; no page shows what a stand-in predicts.
"""

import os
import shutil
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest import mock

import torch
from huggingface_hub import constants

from midsight import configs, pe

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "midsight" / "assets" / "demo"
FULL, SHRUNK = "PE-Core-T16-384", "PE-Core-L14-336"
COMMIT = "0" * 40


def shrunk() -> configs.ModelInfo:
    """PE-Core-L14-336 with two narrow blocks in each tower."""
    info = configs.MODELS[SHRUNK]
    vision = replace(info.vision, width=192, layers=2, heads=3, output_dim=64)  # heads are told from known widths
    return replace(info, vision=vision, text=configs.PETextConfig(32, 64, 1, 2, 64))


def write_cache(folder: Path) -> Path:
    """A Hugging Face cache with the stand-ins."""
    for info in (configs.MODELS[FULL], shrunk()):
        assert info.text is not None
        repository = folder / f"models--facebook--{info.name}"
        snapshot = repository / "snapshots" / COMMIT
        snapshot.mkdir(parents=True)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(COMMIT)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = pe.CLIP(info.vision, info.text)
        torch.save(model.state_dict(), snapshot / info.filename)
    return folder


def lay_out(folder: Path) -> Path:
    """What the pages find in their folder: the package's media where a clone has them, and a copy in `photos`."""
    shutil.copytree(DEMO, folder / "midsight" / "assets" / "demo")
    shutil.copytree(DEMO, folder / "photos", ignore=shutil.ignore_patterns("*.md"))
    return folder


@contextmanager
def entered(folder: Path, cache: Path) -> Iterator[None]:
    """The folder as the current one, the cache in place of the user's, no network."""
    environment = {
        "HF_HUB_CACHE": str(cache),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "120",
        "NO_COLOR": "1",
        "PATH": os.pathsep.join((sysconfig.get_path("scripts"), os.environ["PATH"])),
    }
    before = Path.cwd()
    with (
        mock.patch.dict(os.environ, environment),
        mock.patch.object(constants, "HF_HUB_CACHE", str(cache)),
        mock.patch.object(constants, "HF_HUB_OFFLINE", True),
        mock.patch.dict(configs.MODELS, {SHRUNK: shrunk()}),
    ):
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)
