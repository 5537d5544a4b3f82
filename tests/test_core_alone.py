"""The core installation: everything works where none of the optional packages can be imported."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

OPTIONAL = (
    "torchvision", "timm", "open_clip", "transformers", "pyarrow", "sklearn", "scipy", "pandas", "pillow_heif",
    "torchcodec", "lancedb", "fastapi", "webdataset", "tensorboard", "matplotlib", "cv2",
)  # fmt: skip

BLOCK = f"import sys\nsys.modules.update(dict.fromkeys({OPTIONAL!r}))  # None: any import of it fails\n"


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", BLOCK + code, *arguments], capture_output=True, text=True)


def test_pictures_and_texts_without_any_extra(tiny_folder: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (80, 120, 3), np.uint8)
    for name in ("a.jpg", "b.png", "c.webp"):
        Image.fromarray(pixels).save(tmp_path / name)
    done = run(
        """
import midsight
model = midsight.load(sys.argv[1])
files = sorted(__import__("pathlib").Path(sys.argv[2]).iterdir())
print(model.embed_images(files).shape, model.embed_texts(["a dog"]).shape, len(model.classify(files, ["a", "b"])))
print(model.features(files[0], [0, -1])[0].ndim, model.identity[:0])
""",
        str(tiny_folder),
        str(tmp_path),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0].startswith("(3, ")


def test_a_missing_extra_is_named(tiny_folder: Path, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    done = run(
        "from midsight.cli.main import main\nsys.argv = ['midsight', *sys.argv[1:]]\nmain()",
        *("embed", str(tmp_path / "a.png"), "-o", str(tmp_path / "out.parquet"), "--model", str(tiny_folder)),
    )
    assert done.returncode == 2
    assert "midsight[search]" in done.stderr
