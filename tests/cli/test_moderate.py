"""`midsight moderate` as people use it: a folder, a policy, labels, a page; stopped, killed, and told wrong things."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

import midsight
from midsight.cli.main import app
from midsight.library.moderate import read_policy
from midsight.library.moderate.job import partial_file

DEMO = Path(midsight.__file__).parent / "assets" / "demo"
POLICY = """\
segment_seconds: 2
frames: 2
categories:
  vehicles:   # with wheels
    prompts: [a motorcycle, a car]
  buildings:
    prompts: [a temple, a castle]
"""
# The command itself, at a pace that a test can stop in the middle.
PACED = """
import time
from midsight.api import Perception
from midsight.cli.main import main
encode = Perception._encode
def slow(self, images):
    time.sleep(0.2)
    return encode(self, images)
Perception._encode = slow
main()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The shipped media in `photos`, one file of which is broken, and a policy."""
    shutil.copytree(DEMO, tmp_path / "photos")
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"broken")
    (tmp_path / "policy.yaml").write_text(POLICY)
    return tmp_path


def run(*args: object) -> Result:
    return CliRunner().invoke(app, ["moderate", *map(str, args)])


def test_a_table(folder: Path) -> None:
    for first in ((), ("files",)):
        result = run(*first, folder / "photos", "--policy", folder / "policy.yaml")
        assert result.exit_code == 1, "one file is broken"
        rows = [line.split() for line in result.stdout.splitlines()]
        verdicts = {Path(row[0]).name: row[1:3] for row in rows[1:]}
        assert verdicts == {
            "broken.jpg": ["error"], "cat.jpg": ["pass", "vehicles"], "coffee.jpg": ["pass", "vehicles"],
            "motorcycle.jpg": ["flag", "vehicles"], "rocket.jpg": ["pass", "vehicles"],
            "temple.mp4": ["flag", "buildings"],
        }  # fmt: skip
        assert rows[-1][-1] == "0:00-0:05.3"
        assert "broken.jpg: not a picture" in result.stderr
        assert "6 files: 2 flag, 3 pass, 1 error" in result.stderr


def test_many_files_that_pass_are_not_shown(folder: Path) -> None:
    for n in range(21):
        Image.new("RGB", (32, 32), (n, 0, 0)).save(folder / "photos" / f"{n:02d}.png")
    (folder / "photos" / "broken.jpg").unlink()
    result = run(folder / "photos", "-p", folder / "policy.yaml")
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 3
    assert "--all shows them" in result.stderr
    assert len(run(folder / "photos", "-p", folder / "policy.yaml", "--all").stdout.splitlines()) == 27


def test_json_lines_and_the_file_are_the_same(folder: Path) -> None:
    result = run(folder / "photos", "-p", folder / "policy.yaml", "--json", "--jsonl", folder / "out.jsonl")
    assert result.exit_code == 1
    assert (folder / "out.jsonl").read_text() == result.stdout
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert [record["verdict"] for record in records] == ["error", "pass", "pass", "flag", "pass", "flag"]
    assert records[-1]["findings"][1]["ranges"][0]["start"] == 0


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_stopped_and_taken_up(folder: Path, sent: signal.Signals) -> None:
    output = folder / "out.jsonl"
    args = ["moderate", str(folder / "photos"), "--policy", str(folder / "policy.yaml"), "--jsonl", str(output)]
    process = subprocess.Popen(
        [sys.executable, "-c", PACED, *args, "--batch-size", "1"], stderr=subprocess.PIPE, text=True
    )
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        if partial_file(output).exists() and partial_file(output).read_text().count("\n") >= 3:
            break
        time.sleep(0.01)
    process.send_signal(sent)
    _, told = process.communicate(timeout=60)
    assert process.returncode == (130 if sent == signal.SIGINT else -signal.SIGKILL)
    assert "Traceback" not in told
    assert ("run the same command again" in told) is (sent == signal.SIGINT)
    assert not output.exists()
    other = run(folder / "photos", "-p", folder / "policy.yaml", "--jsonl", output, "--image-size", 128)
    assert other.exit_code == 2
    assert "another job (model changed)" in other.stderr
    result = run(*args[1:])
    assert result.exit_code == 1
    assert "going on: " in result.stderr
    assert [Path(json.loads(line)["path"]).name for line in output.read_text().splitlines()] == [
        "broken.jpg", "cat.jpg", "coffee.jpg", "motorcycle.jpg", "rocket.jpg", "temple.mp4"
    ]  # fmt: skip
    assert not partial_file(output).exists()


def test_calibrate_review_and_calibrate_again(folder: Path) -> None:
    policy, table = folder / "policy.yaml", folder / "labels.csv"
    table.write_text(
        "file,vehicles\nphotos/motorcycle.jpg,yes\nphotos/rocket.jpg,yes\nphotos/cat.jpg,no\nphotos/coffee.jpg,no\n"
        "photos/broken.jpg,no\n"
    )
    result = run("calibrate", "--policy", policy, "--labels", table, "--recall", 1)
    assert result.exit_code == 1, "one labelled file is broken"
    assert "vehicles" in result.stdout
    assert "Wilson" in result.stderr
    assert "only 2 labelled files show it" in result.stderr
    assert "1 of 5 could not be read" in result.stderr
    found = read_policy(policy)
    assert found.calibration is not None
    assert found.calibration.files == 4
    assert "  vehicles:   # with wheels" in policy.read_text().splitlines()
    assert (folder / "policy.yaml.old").read_text() == POLICY
    with Image.open(folder / "policy.png") as plot:
        assert plot.width > 300
    (folder / "photos" / "broken.jpg").unlink()
    output = folder / "out.jsonl"
    assert run(folder / "photos", "-p", policy, "--jsonl", output).exit_code == 0
    verdicts = {Path(one["path"]).name: one["verdict"] for one in map(json.loads, output.read_text().splitlines())}
    assert verdicts["rocket.jpg"] == verdicts["motorcycle.jpg"] == "flag"
    assert verdicts["cat.jpg"] == verdicts["coffee.jpg"] == "pass"
    page = folder / "page.html"
    assert run("review", output, "-o", page).exit_code == 0
    assert "rocket.jpg" in page.read_text()
    decisions = folder / "decisions.jsonl"
    decided = {"path": str(folder / "photos" / "rocket.jpg"), "category": "vehicles", "decision": "no"}
    decisions.write_text(json.dumps(decided) + "\n")
    assert run("review", output, "-o", page, "--decisions", decisions).exit_code == 0
    assert '"decision":"no"' in page.read_text()
    table.write_text(table.read_text().replace("photos/broken.jpg,no\n", ""))
    args = ("calibrate", "-p", policy, "--labels", table, "--no-plot")
    result = run(*args, "--decisions", decisions, "-o", folder / "new.yaml")
    assert result.exit_code == 0, result.stderr
    assert read_policy(folder / "new.yaml").categories[0].threshold > found.categories[0].threshold
    assert not (folder / "new.png").exists()


def test_a_target_that_is_not_reached(folder: Path) -> None:
    (folder / "labels.csv").write_text("file,vehicles\nphotos/motorcycle.jpg,no\nphotos/cat.jpg,yes\n")
    args = ("calibrate", "-p", folder / "policy.yaml", "--labels", folder / "labels.csv", "--no-plot")
    result = run(*args, "--precision", 0.9)
    assert result.exit_code == 1
    assert "no threshold reaches precision 0.9" in result.stderr
    assert (folder / "policy.yaml").read_text() == POLICY


def test_the_example_is_a_policy(tmp_path: Path) -> None:
    result = run("example")
    (tmp_path / "policy.yaml").write_text(result.stdout)
    assert "weapons" in read_policy(tmp_path / "policy.yaml").names


def test_wrong_usage(folder: Path) -> None:
    policy, labels = folder / "policy.yaml", folder / "labels.csv"
    labels.write_text("file,vehicle\na,yes\n")
    (folder / "out.jsonl").write_text("{}\n")
    bad = folder / "bad.yaml"
    bad.write_text(POLICY.replace("prompts: [a temple, a castle]", "promts: [a temple]"))
    for args, message in (
        ((folder / "photos",), "--policy"),
        ((folder / "photos", "-p", bad), "bad.yaml: line 7: category 'buildings' has no key `promts`; did"),
        ((folder / "none", "-p", policy, "-m", "no-such-model"), "no-such-model"),
        (("calibrate", "-p", policy), "no labelled files; give --labels"),
        (("calibrate", "-p", policy, "--labels", labels), "did you mean 'vehicles'?"),
        (("calibrate", "-p", policy, "--labels", labels, "--recall", 2), "wanted recall must be"),
        (("review", folder / "out.jsonl"), "line 1: not a verdict"),
        (("review", folder / "out.jsonl", "-o", "page.txt"), "ends in .html"),
    ):  # fmt: skip
        result = run(*args)
        assert result.exit_code == 2, args
        assert message in " ".join(result.stderr.split())
    assert run().exit_code == 2
    assert run("--help").exit_code == 0
