"""Exit codes, messages, help: what holds for every command."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import midsight
from midsight import errors
from midsight.cli import classify
from midsight.cli.main import app

COMMANDS = ("classify", "embed", "features", "models", "info", "convert")


def run(*args: object) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


def test_version() -> None:
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"midsight {midsight.__version__}\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert "Usage: " in result.stdout
    assert command in run("--help").stdout


def test_no_command_and_wrong_command() -> None:
    assert "classify" in run().output
    assert run("clasify").exit_code == 2


@pytest.mark.parametrize(
    "args",
    [
        ("classify", "a.jpg"),
        ("classify", "--labels", "a,b"),
        ("classify", "a.jpg", "--labels", "a,b", "--top", "0"),
        ("embed", "a.jpg"),
        ("embed", "a.jpg", "-o", "out.csv"),
        ("embed", "a.jpg", "-o", "out.npy", "--segments", "0"),
        ("features", "a.jpg", "--layers", "one"),
        ("features", "a.jpg", "-o", "out.csv"),
        ("features", "a.jpg", "--pca", "out.jpg"),
        ("convert", "a.pt", "b", "--to", "timm", "--dtype", "int8"),
    ],
)
def test_wrong_usage_is_2(args: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*args)
    assert result.exit_code == 2
    assert result.stderr.strip()
    assert not result.stdout


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InputError("wrong"), 2),
        (errors.CheckpointError("wrong"), 2),
        (errors.MissingDependencyError("wrong"), 2),
        (errors.MediaError("wrong"), 1),
        (errors.OutputError("wrong"), 1),
    ],
)
def test_an_error_of_the_library_is_one_message(error: Exception, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(classify.options, "open_model", fail)
    result = run("classify", "a.jpg", "--labels", "a,b")
    assert result.exit_code == code
    assert result.stderr == "error: wrong\n"
    assert not result.stdout


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(classify.options, "open_model", fail)
    assert isinstance(run("classify", "a.jpg", "--labels", "a,b").exception, ZeroDivisionError)


def test_ctrl_c_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(classify.options, "open_model", interrupt)
    result = run("classify", "a.jpg", "--labels", "a,b")
    assert (result.exit_code, result.stderr) == (130, "stopped\n")


def test_unknown_model_suggests_names() -> None:
    result = run("classify", "a.jpg", "--labels", "a,b", "--model", "PE-Core-B16-244")
    assert result.exit_code == 2
    assert "PE-Core-B16-224" in result.stderr


def test_help_is_quick_because_it_brings_no_torch() -> None:
    start = time.perf_counter()
    script = "import sys; from midsight.cli.main import app; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
    assert time.perf_counter() - start < 5


def test_the_command_is_installed() -> None:
    command = Path(sys.executable).parent / "midsight"
    result = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert result.stdout == f"midsight {midsight.__version__}\n"
