"""midsight as a model of lmms-eval: its own command line on a local task, in an environment of its own.

The environment takes gigabytes and minutes, so the first test runs only where MIDSIGHT_LMMS_EVAL names a folder for it
(which is used again where it is there); docs/language_evaluation.md has the command.
"""

import json
import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from PIL import Image

from midsight.evaluate.language.model import open_answerer
from midsight.evaluate.language.tasks import tidy
from midsight.plm.answer import AnswerConfig
from tests.evaluate.language import tiny
from tests.evaluate.language.benchmarks import as_lines, picture

ROOT = Path(__file__).parents[3]
FOLDER = os.environ.get("MIDSIGHT_LMMS_EVAL", "")
VERSION = "0.7.3"  # uses a part of filelock 3 that 4 no longer has
TASK = """
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
task: midsight_tiny
test_split: test
output_type: generate_until
doc_to_visual: !function utils.doc_to_visual
doc_to_text: !function utils.doc_to_text
doc_to_target: answer
generation_kwargs: {{max_new_tokens: 8, temperature: 0}}
metric_list:
  - {{metric: exact_match, aggregation: mean, higher_is_better: true}}
metadata:
  - {{version: 0.0}}
"""
UTILS = """
from PIL import Image

def doc_to_visual(doc):
    return [Image.open(doc["image"])]

def doc_to_text(doc, lmms_eval_specific_kwargs=None):
    return doc["question"]
"""


def environment(folder: Path) -> Path:
    """The command of lmms-eval in an environment with midsight beside it; made where it is not there."""
    command = folder / "bin" / "lmms-eval"
    if not command.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "-q"]
    wanted = ("torch", "torchvision", "transformers", "numpy", "pillow")
    limits = folder / "limits.txt"
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    limits.write_text("\n".join(line for line in lines if line.partition("==")[0] in wanted))
    if not command.exists():
        subprocess.run([*pip, f"lmms-eval=={VERSION}", "filelock<4", "-c", limits], check=True)
    subprocess.run([*pip, "-e", f"{ROOT}[plm]", "-c", limits], check=True)  # brings the newer PyAV
    return command


@pytest.mark.slow
@pytest.mark.skipif(not FOLDER, reason="MIDSIGHT_LMMS_EVAL names no folder for an environment with lmms-eval")
def test_lmms_evals_own_command_gets_the_answers_of_midsight(tmp_path: Path) -> None:
    command = environment(Path(FOLDER))
    rows = []
    for colour in ("teal", "orange", "black"):
        picture(tmp_path / f"{colour}.png", colour, (100, 60))
        rows.append(dict(image=str(tmp_path / f"{colour}.png"), question="What colour is this?", answer=colour))
    as_lines(tmp_path / "rows.jsonl", rows)
    task = tmp_path / "task"
    task.mkdir()
    (task / "midsight_tiny.yaml").write_text(TASK.format(rows=tmp_path / "rows.jsonl"))
    (task / "utils.py").write_text(UTILS)
    model = tiny.save(tmp_path / "tiny")
    arguments = [
        "--model", "midsight_plm", "--model_args", f"pretrained={model},device=cpu", "--tasks", "midsight_tiny",
        "--include_path", task, "--batch_size", "1", "--log_samples", "--output_path", tmp_path / "out",
    ]  # fmt: skip
    offline = dict(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", HF_HOME=str(tmp_path / "home"), OMP_NUM_THREADS="1")
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([command, *arguments], env=kept | offline, capture_output=True, text=True, cwd=tmp_path)
    logs = list((tmp_path / "out").rglob("*samples*.jsonl"))
    assert len(logs) == 1, done.stdout + done.stderr  # its exit code is 0 even after an error
    lines = logs[0].read_text().strip().split("\n")
    samples = sorted(map(json.loads, lines), key=lambda sample: sample["doc_id"])
    answerer = open_answerer(model, 8, "cpu")
    expected = [tidy(answerer.answer([row["image"]], row["question"])) for row in rows]
    assert len(set(expected)) > 1
    assert [sample["filtered_resps"] for sample in samples] == expected


@pytest.fixture
def lmms_eval(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the plugin imports of lmms-eval, by the interface of 0.7.3."""

    class Lmms:
        def __init__(self) -> None:
            self.task_dict: dict[str, dict[str, list[str]]] = {}
            self.cached: list[tuple[object, str]] = []
            self.cache_hook = SimpleNamespace(add_partial=lambda kind, key, value: self.cached.append((key, value)))

    names = ("lmms_eval", "lmms_eval.api", "lmms_eval.api.model", "lmms_eval.models", "lmms_eval.models.registry_v2")
    modules = {name: ModuleType(name) for name in names}
    modules["lmms_eval.api.model"].lmms = Lmms  # type: ignore[attr-defined]
    modules["lmms_eval.models.registry_v2"].ModelManifest = SimpleNamespace  # type: ignore[attr-defined]
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "midsight.evaluate.lmms.model", raising=False)


@pytest.mark.usefixtures("lmms_eval")
def test_the_class_of_the_entry_point_answers_requests(tmp_path: Path) -> None:
    name, _, target = next(
        line.partition(" = ") for line in (ROOT / "pyproject.toml").read_text().splitlines() if "plugin:" in line
    )
    manifest = EntryPoint(name, target.strip('"'), "lmms_eval.models").load()()
    assert manifest.model_id == name == "midsight_plm"
    module, _, kind = manifest.simple_class_path.rpartition(".")
    folder = tiny.save(tmp_path / "tiny")
    model = getattr(__import__(module, fromlist=[kind]), kind)(pretrained=str(folder), device="cpu", batch_size="1")
    picture(tmp_path / "a.png", "teal")
    picture(tmp_path / "b.png", "orange")
    model.task_dict = {"t": {"test": [str(tmp_path / "a.png"), str(tmp_path / "b.png")]}}

    def request(number: int, **settings: object) -> SimpleNamespace:
        return SimpleNamespace(
            args=("What?", settings, lambda doc: [[Image.open(doc).convert("L")]], number, "t", "test")
        )

    long, short, cut = model.generate_until([request(1), request(0, max_new_tokens=3), request(1, until=["-"])])
    answerer = open_answerer(folder, 256, "cpu")
    grey = [Image.open(tmp_path / name).convert("L").convert("RGB") for name in ("a.png", "b.png")]
    assert long == tidy(answerer.answer([grey[1]], "What?"))
    assert cut == long.split("-")[0]
    answerer.config = AnswerConfig(max_new_tokens=3)
    assert short == tidy(answerer.answer([grey[0]], "What?"))
    assert model.cached[0] == (("What?", {}), long)
    with pytest.raises(NotImplementedError):
        model.loglikelihood([])
