"""`midsight ask` as a user meets it: answers, JSON, drawings, batches that are resumed, and what is refused."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

import midsight
from midsight.cli.ask import read_pages
from midsight.cli.main import app
from midsight.errors import InputError
from midsight.library.documents import default, extract
from tests.library.documents.makers import INVOICE, PROTECTED, Sheet, picture_of, tiny_plm, write_pdf


@pytest.fixture(autouse=True)
def small_model(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The default model, random and small."""
    folder = tmp_path_factory.mktemp("model")
    monkeypatch.setattr(default, "open_smollm2", lambda: tiny_plm(folder, sees=False, context=2048))
    monkeypatch.setattr(default, "EMBEDDED", folder / "none")
    monkeypatch.setattr(extract, "MODEL_WEIGHT", 0)  # random weights have no opinion


@pytest.fixture
def invoice(tmp_path: Path) -> Path:
    return write_pdf(tmp_path / "invoice.pdf", [Sheet([(50, 50, 12, "A cover page")]), Sheet(INVOICE)])


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["ask", *map(str, arguments)])


def test_an_answer_on_stdout_and_its_page_on_stderr(invoice: Path) -> None:
    result = run(invoice, "What is the total?")
    assert (result.exit_code, result.stdout) == (0, "$99.90\n")
    assert f"{invoice}, page 2" in result.stderr
    assert "no model that reads pages is embedded" in result.stderr


def test_json(invoice: Path) -> None:
    row = json.loads(run(invoice, "What is the total?", "--json").stdout)
    assert list(row) == ["answer", "pages", "boxes", "names", "seconds"]
    assert (row["answer"], row["pages"][0]["page"], len(row["boxes"])) == ("$99.90", 2, 1)


def test_a_photograph_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MIDSIGHT_CACHE", str(tmp_path))
    cat = Path(midsight.__file__).parent / "assets" / "demo" / "cat.jpg"
    result = run(cat, "Is it a cat, a cup or a bus?", "--ocr", "never")
    assert (result.exit_code, result.stdout) == (0, "cat\n")
    assert re.search(r"likely by its looks: cat \d\d\.\d%, ", result.stderr)
    refused = run(cat, "How many cats are there?", "--ocr", "never")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert '"Is there a dog?"' in refused.stderr


def test_the_answer_is_framed_on_the_page(invoice: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    row = json.loads(run(invoice, "What is the total?", "--draw", out, "--json").stdout)
    pixels = np.asarray(Image.open(out).convert("RGB")).astype(int)
    assert pixels.shape == (1684, 1190, 3)
    red = np.argwhere((pixels[..., 0] > 180) & (pixels[..., 1] < 90))
    x0, y0, x1, y1 = row["boxes"][0]["box"]
    assert red.min(0) == pytest.approx((y0, x0), abs=8)
    assert red.max(0) == pytest.approx((y1, x1), abs=8)


@pytest.mark.parametrize("kind", ["input", "link", "suffix", "folder"])
def test_a_drawing_never_replaces_what_was_asked_about(invoice: Path, tmp_path: Path, kind: str) -> None:
    page = tmp_path / "page.png"
    picture_of([(20, 20, "Total: 5")]).save(page)
    (tmp_path / "link.png").symlink_to(page)
    target = {
        "input": tmp_path / "x" / ".." / "page.png", "link": tmp_path / "link.png",
        "suffix": invoice, "folder": tmp_path / "none" / "out.png",
    }[kind]  # fmt: skip
    before = page.read_bytes(), invoice.read_bytes()
    result = run(page, invoice, "What is the total?", "--draw", target)
    assert result.exit_code == 2
    assert (page.read_bytes(), invoice.read_bytes()) == before


def test_a_folder_of_documents(invoice: Path) -> None:
    (invoice.parent / "notes.txt").write_text("no document")
    result = run(invoice.parent, "What is the total?", "--ocr", "never")
    assert (result.exit_code, result.stdout) == (0, "$99.90\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a document and ask"),
        (["What is it?"], "no document to look at"),
        (["{invoice}"], "is where the question should be"),
        (["{invoice}", "{invoice}"], "is where the question should be"),
        (["{invoice}", ""], "is where the question should be"),
        (["{invoice}", "What?", "--ocr", "maybe"], "auto, always or never"),
        (["{invoice}", "What?", "--answer", "loud"], "auto, span, free, checked"),
        (["{invoice}", "What?", "--pages", "3-1"], "expected numbers from 1"),
        (["{invoice}", "What?", "-o", "a.jsonl"], "belong to --batch"),
        (["{invoice}", "What?", "--start", "3", "--end", "2"], "must be after start"),
        (["{invoice}", "why " * 4000], "the question has"),
        (["clip.mp4", "What?"], "a video, but the model reads text only"),
        (["--batch", "missing.jsonl"], "cannot be read"),
        (["{invoice}", "What?", "--batch", "missing.jsonl"], "leave out the other paths"),
    ],
)  # fmt: skip
def test_wrong_usage_is_told_in_a_line(invoice: Path, arguments: list[str], message: str) -> None:
    result = run(*(argument.format(invoice=invoice) for argument in arguments))
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert "Traceback" not in result.output


@pytest.mark.parametrize("name", ["missing.pdf", "locked.pdf", "broken.pdf", "words.png", "huge.pdf", "dot.png"])
def test_files_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    write_pdf(tmp_path / "locked.pdf", [Sheet(INVOICE)], trailer=PROTECTED)
    write_pdf(tmp_path / "huge.pdf", [Sheet(INVOICE, size=(100_000, 100_000))])
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.7 and nothing")
    (tmp_path / "words.png").write_bytes(b"no picture")
    picture_of([], (1, 1)).save(tmp_path / "dot.png")
    result = run(tmp_path / name, "What is the total?")
    assert result.exit_code == 1
    assert name in result.stderr
    assert "Traceback" not in result.output


def test_one_broken_file_among_others_is_told(invoice: Path, tmp_path: Path) -> None:
    result = run(tmp_path / "missing.pdf", invoice, "What is the total?")
    assert (result.exit_code, result.stdout) == (1, "$99.90\n")
    assert "missing.pdf: no such file" in result.stderr


def write_batch(folder: Path, *rows: tuple[object, str]) -> Path:
    path = folder / "questions.jsonl"
    path.write_text("".join(json.dumps({"path": str(name), "question": asked}) + "\n" for name, asked in rows))
    return path


def test_a_batch_is_answered_in_order_and_resumed(invoice: Path, tmp_path: Path) -> None:
    batch = write_batch(
        tmp_path, (invoice, "What is the total?"), ("gone.pdf", "What?"), (invoice, "What is the due date?")
    )
    out = tmp_path / "answers.jsonl"
    result = run("--batch", batch, "-o", out)
    assert result.exit_code == 1
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row.get("answer") for row in rows] == ["$99.90", None, "11 June 2024"]
    assert {"path", "error"} <= set(rows[1])
    whole = out.read_bytes()
    out.write_bytes(whole[: whole.index(b"\n") + 10])  # killed in the second line
    again = run("--batch", batch, "-o", out)
    assert "1 of 3 questions were answered before" in again.stderr
    kept = [json.loads(line) for line in out.read_text().splitlines()]
    assert kept[0] == rows[0]
    assert [row.get("answer") for row in kept] == [row.get("answer") for row in rows]
    assert run("--batch", batch, "-o", out).exit_code == 1  # all done, one failed
    other = write_batch(tmp_path, (invoice, "Another question?"))
    assert run("--batch", other, "-o", out).exit_code == 1
    assert [json.loads(line) for line in out.read_text().splitlines()] == kept
    assert run("--batch", other, "-o", out, "--restart").exit_code == 0


def test_a_batch_without_an_output_goes_to_stdout(invoice: Path, tmp_path: Path) -> None:
    result = run("--batch", write_batch(tmp_path, (invoice, "What is the total?")))
    assert json.loads(result.stdout)["answer"] == "$99.90"


@pytest.mark.parametrize(
    "line", ["not json", "[1]", '{"path": "a.pdf"}', '{"path": 1, "question": "x"}', "[" * 100_000]
)
def test_a_line_that_is_no_question_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "q.jsonl").write_text('{"path": "a.pdf", "question": "x"}\n' + line + "\n")
    result = run("--batch", tmp_path / "q.jsonl")
    assert result.exit_code == 2
    assert "line 2 is not an object" in " ".join(result.stderr.split())


@pytest.mark.parametrize(("text", "numbers"), [("1-3,7", [1, 2, 3, 7]), ("2", [2]), ("3,3,1", [3, 1]), (None, None)])
def test_pages(text: str | None, numbers: list[int] | None) -> None:
    assert read_pages(text) == numbers


@pytest.mark.parametrize("text", ["", "0", "a", "1-", "5-2", "-3", "1,,2", "99999999"])
def test_pages_that_cannot_be(text: str) -> None:
    with pytest.raises(InputError, match="--pages"):
        read_pages(text)


SLOW = """
import sys
from pathlib import Path
from midsight.library.documents import default, extract
from tests.library.documents.makers import tiny_plm
from midsight.cli.main import main
from midsight.plm.answer import Answerer
def stream(self, prompt, page):
    import time
    yield "a part "
    print("READY", file=sys.stderr, flush=True)
    time.sleep(60)
Answerer.stream = stream
default.EMBEDDED = Path("/none")
folder = Path(sys.argv.pop())
default.open_smollm2 = lambda: tiny_plm(folder, sees=False, context=2048)
main()
"""


def test_ctrl_c_prints_what_there_is_and_leaves_with_130(invoice: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", SLOW, "ask", str(invoice), "What?", "--answer", "free", str(tmp_path)]
    root = Path(__file__).parents[2]
    started: Any = subprocess.Popen(
        command,
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    for line in started.stderr:
        if "READY" in line:
            break
    time.sleep(0.3)
    started.send_signal(signal.SIGINT)
    out, error = started.communicate(timeout=60)
    assert (started.returncode, out) == (130, "a part\n")
    assert "stopped" in error


@pytest.mark.slow
def test_the_packaged_language_model_answers(invoice: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for question, answer in (("What is the total?", "$99.90"), ("Which item is the cheapest?", "Envelopes")):
        assert run(invoice, question).stdout.strip() == answer
