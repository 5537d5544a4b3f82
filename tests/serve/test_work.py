"""One answer at a time: queue, time, clients that leave, pages that are kept, the end of the server."""

import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import openai
import pytest
from torch import Tensor

from midsight.plm import PLM
from midsight.plm.answer import AnswerConfig, Answerer
from midsight.serve import ServeLimits
from tests.serve import server
from tests.serve.server import NAME, asked, client, data_url, file, image, post, text, user

ENDLESS = 1500  # tokens: far more than a test waits for


class Steps:
    """How many steps a model's answers took."""

    count = 0


@pytest.fixture
def no_end(plm: PLM, monkeypatch: pytest.MonkeyPatch) -> Steps:
    """Answers that do not end by themselves, a hundredth of a second for each token; their steps are counted."""
    steps, real = Steps(), plm.decode

    def slowly(*args: Any, **kwargs: Any) -> Iterator[Tensor]:
        for tokens in real(*args, **kwargs):
            steps.count += 1
            time.sleep(0.01)
            yield tokens

    monkeypatch.setattr(plm, "decode", slowly)
    monkeypatch.setattr(plm, "config", replace(plm.config, stop_token_ids=(10_000,)))
    return steps


def test_a_client_that_leaves_ends_its_answer(plm: PLM, no_end: Steps) -> None:
    with server.serving(plm, ServeLimits(queue=0)) as address:
        for stream in (True, False):
            body = json.dumps(asked(max_tokens=ENDLESS, stream=stream)).encode()
            with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))) as connection:
                head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
                connection.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
                before = no_end.count
                server.until(lambda: no_end.count > before + 5)  # noqa: B023
            server.until(lambda: post(address, asked(max_tokens=1))[0] == 200)  # the model is free again
            assert no_end.count < ENDLESS / 2


def test_the_queue_is_bounded_and_says_when_to_come_again(plm: PLM, no_end: Steps) -> None:
    with server.serving(plm, ServeLimits(queue=1)) as address, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: post(address, asked(max_tokens=60)), range(8)))
        assert sorted({status for status, _, _ in answers}) == [200, 503]
        full = [(body, headers) for status, body, headers in answers if status == 503]
        assert len(full) <= 6
        assert full[0][0]["error"]["code"] == "queue_full"
        assert int(full[0][1]["Retry-After"]) > 0
        assert len({body["choices"][0]["message"]["content"] for status, body, _ in answers if status == 200}) == 1
        assert post(address, asked(max_tokens=1))[0] == 200  # places are given back


def test_refused_requests_give_their_place_back(plm: PLM) -> None:
    with server.serving(plm, ServeLimits(queue=0)) as address:
        for body in (b"", asked(n=2), asked(messages=[user(image(data_url(file(0)[:60])), text("a"))])):
            for _ in range(3):
                assert post(address, body)[0] == 400
        assert post(address, asked())[0] == 200


def test_the_time_of_a_request_is_limited(plm: PLM, no_end: Steps) -> None:
    with server.serving(plm, ServeLimits(timeout=0.5, queue=0)) as address:
        status, body, _ = post(address, asked(max_tokens=ENDLESS))
        assert (status, body["error"]["code"]) == (504, "timeout")
        assert "0.5 seconds" in body["error"]["message"]
        server.until(lambda: post(address, asked(max_tokens=1))[0] == 200)
        messages: Any = [user(text("What?"))]
        stream = client(address).chat.completions.create(model=NAME, messages=messages, max_tokens=ENDLESS, stream=True)
        pieces: list[Any] = []
        with pytest.raises(openai.APIError, match=r"0\.5 seconds"):
            pieces.extend(stream)
        assert len(pieces) > 2
        assert no_end.count < ENDLESS / 2


def test_a_page_is_encoded_once(plm: PLM, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[int] = []
    real = plm.encode_media
    monkeypatch.setattr(plm, "encode_media", lambda pixels: encoded.append(len(pixels)) or real(pixels))
    first, second, third = (image(data_url(file(seed))) for seed in range(3))

    def ask(*parts: dict[str, Any], system: str | None = None) -> str:
        said = [] if system is None else [{"role": "system", "content": system}]
        status, body, _ = post(address, asked(messages=[*said, user(*parts)], max_tokens=12))
        assert status == 200
        return str(body["choices"][0]["message"]["content"])

    with server.serving(plm, ServeLimits(pages=2)) as address:
        answer = ask(first, text("What?"))
        assert len(encoded) == 1
        assert ask(first, text("Where?")) != answer
        assert ask(first, text("What?")) == answer
        assert len(encoded) == 1
        other = ask(first, text("What?"), system="Be short.")  # another prompt, the same tokens of the tower
        assert len(encoded) == 1
        assert other != answer
        config = AnswerConfig(max_new_tokens=12)
        assert Answerer(plm, config).answer("What?", [file(0)]).text == answer
        encoded.clear()
        ask(second, text("What?"))
        ask(third, text("What?"))
        assert len(encoded) == 2
        assert ask(first, text("What?")) == answer  # it had to go
        assert len(encoded) == 3


def test_a_failure_of_the_model_is_told_and_the_next_request_is_answered(
    plm: PLM, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = plm.encode_media

    def broken(_: Tensor) -> Tensor:
        monkeypatch.setattr(plm, "encode_media", real)
        raise RuntimeError("out of memory: secret")

    body = asked(messages=[user(image(data_url(file(5))), text("What?"))])
    with server.serving(plm) as address:
        monkeypatch.setattr(plm, "encode_media", broken)
        status, told, _ = post(address, body)
        assert (status, told["error"]["type"], told["error"]["code"]) == (500, "server_error", "internal_error")
        assert "secret" not in str(told)
        assert "out of memory" in caplog.text
        assert post(address, body)[0] == 200


def test_the_end_of_the_server_ends_an_answer_that_takes_too_long(plm: PLM, no_end: Steps) -> None:
    outcome: list[Any] = []

    def ask() -> None:
        try:
            outcome.append(post(address, asked(max_tokens=ENDLESS)))
        except Exception as error:
            outcome.append(error)

    with server.serving(plm) as address:
        thread = threading.Thread(target=ask)
        thread.start()
        server.until(lambda: no_end.count > 3)
        start = time.monotonic()
    assert time.monotonic() - start < 8  # grace is 2 seconds
    thread.join(5)
    assert isinstance(outcome[0], Exception) or outcome[0][0] >= 500
    assert no_end.count < ENDLESS / 2


def test_the_end_of_the_server_waits_for_an_answer(plm: PLM, no_end: Steps) -> None:
    with server.serving(plm) as address, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(post, address, asked(max_tokens=80))
        server.until(lambda: no_end.count > 3)
    status, body, _ = answer.result()
    assert (status, body["usage"]["completion_tokens"]) == (200, 80)


def test_the_log_has_a_line_for_each_request_and_nothing_of_what_it_says(
    plm: PLM, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "midsight.serve")
    secret = "swordfish"
    with server.serving(plm, keys=["k3y"]) as address:
        key = {"Authorization": "Bearer k3y"}
        system = {"role": "system", "content": secret}
        messages = [system, user(image(data_url(file(0))), text(f"What is {secret}?"))]
        _, body, headers = post(address, asked(messages=messages, user=secret), key)
        post(address, asked(messages=messages, stop=[secret], n=3), key)
        post(address, asked(), {"Authorization": f"Bearer {secret}"})
        server.get(address, f"/{secret}?{secret}", key)
    lines = [json.loads(record.message) for record in caplog.records if record.name == "midsight.serve"]
    assert [(line["status"], line["path"]) for line in lines] == [
        (200, "/v1/chat/completions"),
        (400, "/v1/chat/completions"),
        (401, None),
        (404, None),
    ]
    first = lines[0]
    assert first["id"] == headers["x-request-id"]
    assert first["media"] == 1
    assert first["prompt_tokens"] == body["usage"]["prompt_tokens"]
    assert first["completion_tokens"] == body["usage"]["completion_tokens"]
    assert first["finish_reason"] == body["choices"][0]["finish_reason"]
    assert first["seconds"] > 0
    assert lines[1]["error"] == "unsupported_value"
    for word in (secret, "k3y", "data:", body["choices"][0]["message"]["content"]):
        assert word not in caplog.text
