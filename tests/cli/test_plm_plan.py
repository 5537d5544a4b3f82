"""`midsight plm plan`: published names and folders, without a weight."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from typer.testing import CliRunner

from midsight.cli.main import app
from midsight.plm.plan import Load, plan, published
from tests.plm import tiny


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(app, ["plm", "plan", *map(str, arguments)])


def test_a_published_model_by_either_name() -> None:
    done = run("1B", "--tiles", 5, "--threads", 1)
    assert done.exit_code == 0, done.output
    assert "language model                               2,472" in done.stdout
    assert "1408 tokens and the answer" in done.stdout
    assert run("facebook/Perception-LM-1B", "--frames", 5, "--threads", 1).stdout == done.stdout


def test_json_has_the_library_s_figures() -> None:
    done = run("3B", "--tiles", 37, "--dtype", "fp32", "--batch", 2, "--new-tokens", 100, "--threads", 1, "--json")
    expected = plan(published("3B"), Load(37, 2, 100), torch.float32)
    assert json.loads(done.stdout) == {**vars(expected), "total": expected.total}


def test_a_folder_without_its_weights(tmp_path: Path) -> None:
    tiny.saved(tmp_path / "plm")
    whole = run(tmp_path / "plm", "--json")
    for file in (tmp_path / "plm").glob("*.safetensors*"):
        file.unlink()
    assert run(tmp_path / "plm", "--json").stdout == whole.stdout
    int4 = json.loads(run(tmp_path / "plm", "--quantize", "int4", "--json").stdout)
    assert int4["language_model"] < json.loads(whole.stdout)["language_model"]


def test_a_prompt_beyond_the_context_is_told() -> None:
    done = run("8B", "--tiles", 50)
    assert done.exit_code == 0
    assert "prompt and answer have 13184 tokens; the model reads 11520" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["2B"], "2B: there is no such folder"),
        (["1B", "--dtype", "fp16"], "--dtype must be fp32 or bf16, got 'fp16'"),
        (["1B", "--quantize", "int3"], "quantize must be int8 or int4, got 'int3'"),
        (["1B", "--quantize", "int4", "--dtype", "fp32"], "quantised weights compute in bfloat16 on the CPU"),
        (["1B", "--tiles", "3", "--frames", "3"], "give one of them"),
        (["tests"], "tests: no PLM: expected config.json"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert message in done.stderr
