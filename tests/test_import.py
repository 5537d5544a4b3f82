"""`import midsight` is quick and light; what it names is there."""

import importlib.metadata
import json
import subprocess
import sys

import pytest

import midsight

HEAVY = ("torch", "numpy", "PIL", "av", "tokenizers", "safetensors", "huggingface_hub", "transformers", "typer", "rich")
SCRIPT = """
import json, sys, time
start = time.perf_counter()
import midsight
seconds = time.perf_counter() - start
print(json.dumps([seconds, sorted(sys.modules)]))
"""
OPTIONAL = ("torchvision", "transformers", "timm", "open_clip", "pyarrow", "sklearn", "torchcodec", "pillow_heif")


def run(script: str) -> list[object]:
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    found: list[object] = json.loads(result.stdout)
    return found


def test_import_is_quick_and_brings_nothing_heavy() -> None:
    runs = [run(SCRIPT) for _ in range(3)]
    seconds, modules = min(runs, key=lambda found: float(str(found[0])))
    assert float(str(seconds)) < 0.2
    assert not {name for name in HEAVY if name in modules}  # type: ignore[operator]


def test_the_light_modules_bring_no_torch() -> None:
    light = "errors, configs, files, threads, images, video"
    modules = run(f"import json, sys; from midsight import {light}; print(json.dumps(sorted(sys.modules)))")
    assert "torch" not in modules


def test_the_api_needs_none_of_the_extras() -> None:
    modules = run("import json, sys; from midsight import load, pe, transforms; print(json.dumps(sorted(sys.modules)))")
    assert "torch" in modules
    assert not set(OPTIONAL) & set(modules)


@pytest.mark.parametrize("name", midsight.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(midsight, name) is not None
    assert name in dir(midsight)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = midsight.nonsense


def test_a_source_tree_that_is_not_installed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    assert midsight._version() == midsight.__version__ == importlib.metadata.version("midsight")
    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert midsight._version() == "0+unknown"
