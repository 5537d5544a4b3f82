"""`midsight serve`: a real server in a process of its own, and what it refuses to start with."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

import midsight
from midsight.cli.main import app
from midsight.plm import PLM
from midsight.plm.answer import AnswerConfig, Answerer
from tests.plm import tiny
from tests.serve.server import asked, data_url, file, get, image, post, text, user

SERVE = (sys.executable, "-m", "midsight.cli.main", "serve", "--host", "127.0.0.1", "--port", "0", "--threads", "1")


@pytest.fixture(scope="module")
def plm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plm") / "tiny"
    tiny.saved(folder)
    return folder


@pytest.fixture
def process(plm_folder: Path) -> Iterator["subprocess.Popen[str]"]:
    command = [*SERVE, "--plm", str(plm_folder), "--api-key", "key", "--max-media", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as started:
        yield started
        started.kill()


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["serve", *map(str, arguments)])


def test_a_server_answers_logs_and_ends_with_sigterm(process: "subprocess.Popen[str]", plm_folder: Path) -> None:
    assert process.stderr is not None
    first = process.stderr.readline().split()
    assert first[:5] == ["serving", "embedded", "and", "tiny", "at"]
    address = first[5].removesuffix("/v1")
    key = {"Authorization": "Bearer key"}
    body = {"model": "embedded", "input": "a cat"}
    status, found, _ = post(address, body, key, "/v1/embeddings")
    expected = midsight.load(device="cpu", threads=1).embed_texts("a cat")[0]
    assert status == 200
    np.testing.assert_allclose(found["data"][0]["embedding"], expected, atol=1e-6)
    names = [model["id"] for model in get(address, "/v1/models", key)[1]["data"]]
    assert names == ["embedded", "tiny"]
    messages = [user(image(data_url(file(0))), text("What?"))]
    status, body, _ = post(address, asked(messages=messages), {"Authorization": "Bearer key"})
    answer = Answerer(PLM.from_pretrained(plm_folder), AnswerConfig(max_new_tokens=4)).answer("What?", [file(0)])
    assert (status, body["choices"][0]["message"]["content"]) == (200, answer.text)
    assert post(address, asked())[0] == 401
    two = [user(*[image(data_url(file(0)))] * 2, text("What?"))]
    assert post(address, asked(messages=two), {"Authorization": "Bearer key"})[0] == 400
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == -signal.SIGTERM  # a shell says 143
    lines = [json.loads(line) for line in process.stderr]
    assert [line["status"] for line in lines] == [200, 200, 200, 401, 400]


def test_an_address_in_use_is_told_before_a_model_is_loaded(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run("--plm", tmp_path / "nothing", "--port", taken.getsockname()[1])
    assert done.exit_code == 2
    assert "cannot listen there (Address already in use); choose another --host or --port" in done.stderr


def test_without_the_extra_it_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastapi", None)
    for name in [name for name in sys.modules if name.startswith("midsight.serve")]:
        monkeypatch.delitem(sys.modules, name)
    done = run("--port", 0)
    assert done.exit_code == 2
    assert "pip install 'midsight[serve]'" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--plm", "nothing"), "there is no such folder"),
        (("--plm", "nothing", "--dtype", "fp8"), "dtype must be"),
        (("--api-key", " "), "an API key is empty"),
        (("--host", "no.such.host.invalid"), "cannot listen there"),
        (("--queue", "-1"), "--queue"),
        (("nothing-like-it",), "nothing-like-it"),
        (("--allow-host", "https://example.org/a"), "--allow-host takes a name such as"),
        (("--unload-after", "0"), "--unload-after"),
    ],
)
def test_what_it_does_not_start_with(arguments: tuple[str, ...], message: str) -> None:
    done = run("--port", 0, *arguments)
    assert done.exit_code == 2
    assert message in done.stderr


def test_the_demo_is_searched_and_leaves_nothing(tmp_path: Path) -> None:
    command = [*SERVE, "--demo"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as started:
        try:
            assert started.stderr is not None
            lines = [started.stderr.readline() for _ in range(2)]
            assert lines[1].startswith("search it in a browser: http://127.0.0.1:")
            address = lines[1].split()[-1].rstrip("/")
            status, body, _ = post(address, {"input": "a cat", "top": 1}, path="/v1/search")
            assert (status, body["data"][0]["path"]) == (200, "cat.jpg")
            assert list(tmp_path.glob("midsight-demo-*"))
            started.send_signal(signal.SIGTERM)
            assert started.wait(30) == 128 + signal.SIGTERM
            assert not list(tmp_path.glob("midsight-demo-*"))
        finally:
            started.kill()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--demo", "--index", "x"), "--demo has an index of its own"),
        (("--index", "nowhere"), "no index is there"),
        (("--decisions", "x.jsonl", "--demo"), "needs --index and --policy"),
        (("--policy", "nowhere.yaml"), "nowhere.yaml"),
    ],
)
def test_what_cannot_be_searched(arguments: tuple[str, ...], message: str) -> None:
    result = run("--port", 0, *arguments)
    assert result.exit_code != 0
    assert message in result.stderr
