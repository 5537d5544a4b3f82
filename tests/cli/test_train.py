"""`midsight train core`: a whole run from files, what it refuses, and plans."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import midsight
from midsight.cli.main import app

COLOURS = {"red": (220, 40, 40), "green": (40, 200, 60), "blue": (40, 60, 220), "white": (240, 240, 240)}
SHORT = ["--set", "stages=[{image_size=16, samples=32}, {image_size=24, samples=32}]", "--set", "data.batch_size=16"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of colours, as a table of pairs and as folders of classes; one is broken, one has no caption."""
    folder = tmp_path_factory.mktemp("data")
    dice, rows = np.random.default_rng(0), [("path", "caption")]
    for number in range(32):
        name = list(COLOURS)[number % 4]
        pixels = np.clip(np.array(COLOURS[name]) + dice.normal(0, 20, (24, 30, 3)), 0, 255).astype(np.uint8)
        path = folder / "classes" / name / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        rows.append((str(path.relative_to(folder)), f"a {name} picture, number {number}"))
    (folder / "broken.png").write_bytes(b"junk")
    rows += [("broken.png", "a broken picture"), (rows[1][0], "")]
    with open(folder / "pairs.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


def run(*arguments: object) -> "tuple[int, str, str]":
    result = CliRunner().invoke(app, ["train", "core", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


def test_a_run_from_a_table_gives_a_model_that_loads(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    evaluated = ["--set", f"run.evaluate_on={data / 'classes'}", "--set", "run.evaluate_every=2"]
    settings = [*SHORT, *evaluated, "--set", "run.log_every=1", "--set", "run.device=cpu"]
    code, stdout, stderr = run("core_tiny", "--data", data / "pairs.csv", "--out", out, *settings, "--json")
    assert code == 0, stderr
    records = [json.loads(line) for line in stdout.splitlines()]
    assert [r["step"] for r in records if "loss" in r] == [1, 2, 3, 4]
    figures = [r for r in records if "zero_shot_acc1" in r]
    assert [r["step"] for r in figures] == [2, 4]
    assert all(0 <= r["zero_shot_acc1"] <= 1 for r in figures)
    assert records[-2]["skipped"] == {"missing caption": 2, "unreadable picture": 2}
    model = midsight.load(out / "model", device="cpu")
    assert model.embed_images([data / "classes" / "red" / "0.png"]).shape == (1, 32)
    code, _, stderr = run("core_tiny", "--data", data / "pairs.csv", "--out", out, *settings)
    assert code == 1
    assert "holds a run already" in stderr


def test_training_goes_on_from_weights(data: Path, tmp_path: Path, tiny_folder: Path) -> None:
    settings = [*SHORT, "--set", "optim.lr=1e-9", "--set", "run.device=cpu", "--set", "steps.mask=false"]
    code, _, stderr = run(
        "core_tiny", "--data", data / "classes", "--out", tmp_path / "run", "--from", tiny_folder, *settings
    )
    assert code == 0, stderr
    from midsight.checkpoints import load_pretrained

    before, after = load_pretrained(tiny_folder).state_dict, load_pretrained(tmp_path / "run" / "model").state_dict
    assert np.allclose(before["visual.proj"], after["visual.proj"], atol=1e-5)
    assert before["visual.positional_embedding"].shape[0] == 17
    assert after["visual.positional_embedding"].shape[0] == 10


def test_finetuning_needs_a_start_and_data_alone(data: Path, tmp_path: Path, tiny_folder: Path) -> None:
    quick = ["--set", "run.device=cpu", "--set", "finetune.epochs=2", "--set", "optim.lr=1e-3"]
    shared = ["--from", tiny_folder, "--data", data / "classes", "--also", data / "classes", *quick]
    code, stdout, stderr = run(*shared, "--out", tmp_path / "run")
    assert code == 0, stderr
    for text in ("zero-shot", "before", "after", "held-out top1", "also top1"):
        assert text in stdout
    assert "held-out: " in stderr
    assert "Saved is alpha" in stderr
    assert (tmp_path / "run" / "report.html").exists()
    assert midsight.load(tmp_path / "run" / "model", device="cpu").config.image_size == 32
    code, stdout, stderr = run(*shared, "--out", tmp_path / "lora", "--set", "finetune.mode=lora", "--json")
    assert code == 0, stderr
    assert json.loads(stdout.splitlines()[-1])["report"]["finetune"]["mode"] == "lora"
    assert {path.name for path in (tmp_path / "lora" / "adapters").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    code, stdout, stderr = run(*shared[:4], *quick, "--out", tmp_path / "blind", "--set", "finetune.holdout=0",
                               "--set", "finetune.alpha=1")  # fmt: skip
    assert code == 0, stderr
    assert "nothing was held out" in stderr


def test_weights_of_other_towers_are_refused(data: Path, tmp_path: Path, tiny_folder: Path) -> None:
    code, _, stderr = run(
        "core_tiny", "--data", data / "classes", "--out", tmp_path / "run", "--from", tiny_folder, *SHORT,
        "--set", "model.vision.width=24",
    )  # fmt: skip
    assert code == 2
    assert "does not fit the towers of the recipe" in stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["core_tiny", "--out", "x"], "a run needs --data, --out and a recipe"),
        (["--data", "x", "--out", "x"], "a run needs --data, --out and a recipe, or --from"),
        (["core_finetune", "--data", "x", "--out", "x"], "needs weights to start from"),
        (["--from", "embeded", "--data", "x", "--out", "x"], "there is no model named 'embeded'"),
        (["--from", "embedded", "--data", "x", "--out", "x"], "x: no such file or folder"),
        (["core_tiny", "--data", "no.csv", "--out", "x"], "no.csv"),
        (["no_recipe", "--data", "no.csv", "--out", "x"], "not a readable recipe"),
        (["core_tiny", "--data", "x", "--out", "x", "--set", "optim.speed=1"], "no setting 'speed'"),
        (["--plan", "PE-Core-X"], "there is no model named"),
        (["--plan", "PE-Core-T16-384"], "is not published"),
        (["--plan", "PE-Core-L14-336", "--gpu", "abacus"], "known are A100"),
        (["--plan", "PE-Core-L14-336", "--gpus", "7"], "shared evenly by 7"),
    ],
)
def test_wrong_usage_is_told(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, stderr = run(*arguments)
    assert code == 2
    assert message in stderr


def test_a_plan_says_what_it_costs() -> None:
    code, stdout, stderr = run("--plan", "PE-Core-G14-448", "--gpus", 512)
    assert code == 0, stderr
    for text in ("656,126", "86.00B", "US dollars", "GiB", "assumed", "1,882M vision, 537M text"):
        assert text in stdout
    code, stdout, _ = run("--plan", "PE-Core-G14-448", "--gpus", 256, "--mfu", 0.5, "--json")
    plan = json.loads(stdout)
    assert code == 0
    assert plan["assumptions"] == {"gpu": "H100", "gpus": 256, "mfu": 0.5, "price": 2.5}
    assert plan["cost_usd"] == pytest.approx(plan["hours"] * 256 * 2.5)
    assert len(plan["stages"]) == 5
