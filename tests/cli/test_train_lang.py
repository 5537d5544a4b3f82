"""`midsight train lang`: a whole run from files, resuming, rows that cannot be used, and wrong usage."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import midsight
from midsight.cli.main import app
from midsight.plm import PLM
from tests.plm.conversations import coloured, question
from tests.train import lang

SHORT = ("data.batch_size=4", "data.max_length=160", "run.log_every=1", "run.device=cpu", "model.max_tiles=1")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = coloured(tmp_path_factory.mktemp("rows"), 8)
    with path.open("a") as file:
        file.write("not JSON\n" + json.dumps(question("a", "b", image="none.png")) + "\n")
    return path


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    folder = tmp_path_factory.mktemp("parts")
    return ["--tower", lang.core(folder / "core"), "--lm", lang.language(folder / "lm")]


def run(*arguments: Any, changes: tuple[str, ...] = ()) -> Result:
    sets = [part for change in (*SHORT, *changes) for part in ("--set", change)]
    return CliRunner().invoke(app, ["train", "lang", *map(str, arguments), *sets])


def test_from_parts_to_a_plm_and_on_from_it(rows: Path, parts: list[Any], tmp_path: Path) -> None:
    changes = ("steps=5", "tower.image_size=56", "tower.layer=-2", "language.train=lora", "run.precision=fp32")
    done = run("lang_small", *parts, "--data", rows, "--out", tmp_path / "a", "--keep-tower", changes=changes)
    assert done.exit_code == 0, done.stderr
    assert "loading " in done.stderr
    assert "step 5/5  loss " in done.stderr
    assert "broken row" in done.stdout
    assert "rows.jsonl:10: " in done.stdout.replace("\n", "")
    assert midsight.load(tmp_path / "a/tower").tower.layers == 3
    assert PLM.from_pretrained(tmp_path / "a/model").config.max_tiles == 1
    again = run("lang_small", *parts, "--data", rows, "--out", tmp_path / "a", "--resume", "--json", changes=changes)
    assert again.exit_code == 0, again.stderr
    assert json.loads(again.stdout)["model"] == str(tmp_path / "a/model")
    more = run(
        "lang_small", "--from", tmp_path / "a/model", "--data", rows, "--data", rows, "--root", rows.parent, "--out",
        tmp_path / "b", changes=("steps=1", "tower.image_size=0", "projector.train=frozen"),
    )  # fmt: skip
    assert more.exit_code == 0, more.stderr
    assert (tmp_path / "b/model/config.json").exists()
    assert not (tmp_path / "b/tower").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("lang_small", "--data", "rows.jsonl"), "needs --out"),
        (("lang_small", "--out", "x"), "a run needs rows"),
        (("lang_stage2", "--data", "rows.jsonl", "--out", "x"), "begins with a PLM (--from)"),
        (("lang_stage2", "--data", "none.jsonl", "--from", "plm", "--out", "x"), "none.jsonl: no such file"),
        (("lang_small", "--out", "x", "--set", "optim.rate=1"), "there is no setting 'rate'"),
        (("lang_small", "--out", "x", "--set", "tower.train=some"), "tower.train must be one of"),
    ],
)
def test_wrong_usage_is_told(
    arguments: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text(json.dumps(question("a", "b")) + "\n")
    result = run(*arguments)
    assert (result.exit_code, message in result.stderr) == (2, True), result.stderr
    assert not (tmp_path / "x").exists()
