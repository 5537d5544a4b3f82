"""`midsight models`: the table against the modules and the published counts."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from midsight import pe
from midsight.cli import show
from midsight.cli.main import app
from midsight.cli.models import count
from midsight.configs import MODELS

# Exact counts that follow from the published shapes: vision, text without the logit scale.
PUBLISHED = {
    "PE-Core-G14-448": (1_882_032_640, 537_233_920),
    "PE-Core-L14-336": (317_151_232, 353_986_560),
    "PE-Core-B16-224": (93_672_960, 353_986_560),
    "PE-Core-S16-384": (23_782_656, 63_405_056),
    "PE-Core-T16-384": (6_140_544, 63_405_056),
    "PE-Lang-G14-448": (1_740_922_624, 0),
    "PE-Lang-L14-448": (291_415_040, 0),
    "PE-Spatial-G14-448": (1_851_887_104, 0),
    "PE-Spatial-L14-448": (303_964_160, 0),
    "PE-Spatial-B16-512": (86_433_792, 0),
    "PE-Spatial-S16-512": (21_983_232, 0),
    "PE-Spatial-T16-512": (5_683_200, 0),
}


def records() -> dict[str, dict[str, object]]:
    result = CliRunner().invoke(app, ["models", "--json"])
    assert result.exit_code == 0
    found = [json.loads(line) for line in result.stdout.splitlines()]
    return {record["name"]: record for record in found}


def test_every_configuration_with_its_published_size() -> None:
    found = records()
    assert list(found) == list(MODELS)
    for name, (vision, text) in PUBLISHED.items():
        assert found[name]["vision_parameters"] == vision
        assert found[name]["text_parameters"] == text
    core = found["PE-Core-B16-224"]
    assert core["figures"] == dict(MODELS["PE-Core-B16-224"].figures)
    assert core["repository"] == "facebook/PE-Core-B16-224"
    assert core["context_length"] == 32


@pytest.mark.parametrize("name", MODELS)
def test_counts_are_those_of_the_modules(name: str) -> None:
    model = MODELS[name]
    with torch.device("meta"):
        module = pe.CLIP(model.vision, model.text) if model.text else pe.VisionTransformer(model.vision)
    assert count(model.vision, model.text) == sum(parameter.numel() for parameter in module.parameters())


def test_weights_in_the_cache_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    from midsight.checkpoints import hub

    monkeypatch.setattr(hub, "is_cached", lambda name: name == "PE-Core-T16-384")
    found = records()
    assert [name for name, record in found.items() if record["here"]] == ["PE-Core-T16-384"]


@pytest.mark.parametrize(("width", "shown"), [(200, True), (60, False)])
def test_the_table_fits_the_terminal(width: int, shown: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    console: Callable[[], Console] = lambda: Console(width=width)  # noqa: E731
    monkeypatch.setattr(show, "out", console)
    result = CliRunner().invoke(app, ["models"])
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= width
    for name in MODELS:
        assert name in result.stdout
    assert ("ImageNet-1k top-1 85.4" in result.stdout) is shown
