"""What is refused, with which status and which words; and that no address is ever followed."""

import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from midsight.plm import PLM
from midsight.serve import ServeLimits
from tests.serve import server
from tests.serve.server import asked, data_url, file, image, post, text, user

IMAGE = {"type": "image_url", "image_url": "x"}


@pytest.fixture
def sink() -> Iterator[tuple[int, list[Any]]]:
    """A port, and the connections to it."""
    heard: list[Any] = []
    listening = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                connection, peer = listening.accept()
            except OSError:
                return
            heard.append(peer)
            connection.close()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield listening.getsockname()[1], heard
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    thread.join(5)


def about(url: str) -> dict[str, Any]:
    """A request with that picture."""
    return asked(messages=[user(image(url), text("What?"))])


def test_no_address_is_ever_followed(address: str, sink: tuple[int, list[Any]]) -> None:
    port, heard = sink
    there = f"127.0.0.1:{port}/cat.png"
    link = f'<svg xmlns="http://www.w3.org/2000/svg"><image href="http://{there}"/></svg>'.encode()
    urls = [
        f"http://{there}", f"https://{there}", f"HTTP://{there}", f"//{there}", f"ftp://{there}", f" http://{there}",
        there, "file:///etc/passwd", "/etc/passwd", "midsight/assets/demo/cat.jpg", "",
        f"data:http://{there}", f"data:image/png,http://{there}", f"data:image/png;base64,http://{there}",
        f"data:image/png;base64,data:image/png;base64,http://{there}", f"view-source:data:image/png;base64,{there}",
        data_url(f"http://{there}".encode()), data_url(f"http://{there}".encode(), "text/uri-list"),
        data_url(link, "image/svg+xml"), data_url(file(0), "text/html"), data_url(b"%!PS-Adobe-3.0 EPSF-3.0\n"),
        f"jar:http://{there}!/", f"\nhttp://{there}", f"blob:http://{there}",
    ]  # fmt: skip
    for url in urls:
        status, body, _ = post(address, about(url))
        assert status == 400, url
        assert body["error"]["code"] in {"invalid_image_url", "invalid_image_format"}, url
        assert body["error"]["param"] == "messages.0.content.0.image_url.url"
    socket.create_connection(("127.0.0.1", port)).close()  # the sink does hear
    server.until(lambda: heard)
    assert len(heard) == 1


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        (b"", None, "Invalid JSON"),
        (b"\xff{}", None, "Invalid JSON"),
        (b"[" * 100_000, None, "Invalid JSON"),
        (b"[]", None, "the body: Input should be an object"),
        ({"messages": []}, "model", "model: Field required"),
        (asked(messages=[]), "messages", "at least 1 item"),
        (asked(messages="What?"), "messages", "valid array"),
        (asked(messages=[{"role": "tool", "content": "1"}]), "messages.0", "'tool'"),
        (asked(messages=[user({"type": "input_audio"})]), "messages.0.content.0", "'input_audio'"),
        (
            asked(messages=[user({"type": "image_url", "image_url": "x"})]),
            "messages.0.content.0.image_url",
            "should be an object",
        ),
        (asked(messages=[user(text("a")), {"role": "assistant", "content": "b"}]), "messages.1", "must be a user's"),
        (asked(messages=[{"role": "assistant", "content": "b"}, user(text("a"))]), "messages", "must be a user's"),
        (asked(messages=[user(text("a")), {"role": "system", "content": "b"}]), "messages.1", "in front of all"),
        (asked(" \n"), "messages.0.content", "the question is empty"),
        (b'{"model": "tiny", "messages": [{"role": "user", "content": "\\ud800"}]}', None, "Invalid JSON"),
        (asked(max_tokens=0), "max_tokens", "greater than or equal to 1"),
        (asked(max_tokens="4"), "max_tokens", "valid integer"),
        (asked(max_tokens=True), "max_tokens", "valid integer"),
        (asked(temperature=-1), "temperature", "greater than or equal to 0"),
        (json.dumps(asked(temperature=1)).replace("1}", "NaN}").encode(), "temperature", "finite"),
        (asked(top_p=0), "top_p", "greater than 0"),
        (asked(seed=2**63), "seed", "less than"),
        (asked(stop=["a"] * 5), "stop", "at most 4 texts"),
        (asked(stop="a" * 300), "stop", "at most 256 characters"),
        (asked(stop=[1]), "stop.0", "valid string"),
        (asked(n=2), "n", "only as 1"),
        (asked(n=True), "n", "only as 1"),
        (asked(logprobs=True), "logprobs", "only as False"),
        (asked(tools=[{}]), "tools", "only as []"),
        (asked(response_format={"type": "json_object"}), "response_format", "only as {'type': 'text'}"),
        (asked(audio={"voice": "x"}), "audio", "is not possible"),
        (asked(max_token=3), "max_token", "no such parameter"),
        (asked(stream_options={"include_usage": True}), "stream_options", "only with stream"),
    ],
)
def test_requests_that_cannot_be(address: str, body: Any, param: str | None, message: str) -> None:
    status, answer, _ = post(address, body)
    assert status == 400
    assert answer["error"]["type"] == "invalid_request_error"
    assert param is None or answer["error"]["param"] == param
    assert message in answer["error"]["message"]


def test_parameters_that_ask_for_nothing_are_taken(address: str) -> None:
    neutral = dict(
        n=1, frequency_penalty=0.0, presence_penalty=0, logit_bias={}, logprobs=False, tools=[], tool_choice="none",
        response_format={"type": "text"}, user="x", metadata={"a": "b"}, store=False, stop=None, stream=None,
        top_logprobs=None, audio=None, seed=None, max_tokens=None, max_completion_tokens=2,
    )  # fmt: skip
    status, answer, _ = post(address, asked(**neutral))
    assert (status, answer["usage"]["completion_tokens"]) == (200, 2)


def test_pictures_that_cannot_be_read(address: str) -> None:
    whole = file(0, "jpeg")
    for data, code in (
        (whole[: len(whole) // 2], "invalid_image"),
        (file(0)[:60], "invalid_image"),
        (b"RIFF0000WEBP", "invalid_image"),
        (b"", "invalid_image_format"),
        (b"%PDF-1.7", "invalid_image_format"),
    ):
        messages = [user(image(data_url(file(1))), image(data_url(data)), text("What?"))]
        for stream in (False, True):  # a stream has a status of its own, too, as long as nothing was sent
            status, body, _ = post(address, asked(messages=messages, stream=stream))
            assert (status, body["error"]["code"]) == (400, code)
            assert body["error"]["param"] == "messages.0.content.1.image_url.url"
            assert "picture 2" in body["error"]["message"]
            assert "Limits" not in body["error"]["message"]


def test_limits_of_bytes_pixels_and_number(plm: PLM) -> None:
    small, large = file(0), file(0, height=300, width=400)
    limits = ServeLimits(max_body_bytes=20_000, max_image_bytes=3000, max_pixels=90 * 60, max_media=2)
    with server.serving(plm, limits) as address:
        assert post(address, about(data_url(small)))[0] == 200
        status, body, _ = post(address, about(data_url(large)))
        assert (status, body["error"]["code"]) == (400, "image_too_large")
        assert "400x300 is 120000 pixels, the limit is 5400" in body["error"]["message"]
        status, body, _ = post(address, about("data:image/png;base64," + "A" * 4100))
        assert (status, body["error"]["code"]) == (400, "image_too_large")
        assert "the limit of this server is 3000" in body["error"]["message"]
        three = [user(*[image(data_url(small))] * 2, text("a")), user(image(data_url(small)), text("b"))]
        status, body, _ = post(address, asked(messages=three))
        assert (status, body["error"]["code"]) == (400, "too_many_images")
        status, body, _ = post(address, asked("a" * 20_000))
        assert (status, body["error"]["code"]) == (413, "request_too_large")


def test_a_body_is_not_read_beyond_the_limit(plm: PLM) -> None:
    """Whether its length is announced or not: the answer comes while most of the body has not been sent."""
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    with server.serving(plm, ServeLimits(max_body_bytes=1000)) as address:
        for rest in ("Content-Length: 1000000000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n800\r\n" + "a" * 2048):
            with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), timeout=20) as connection:
                connection.sendall((head + rest).encode())
                assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_other_types_than_json_are_refused(address: str, kind: str) -> None:
    status, body, _ = post(address, asked(), {"Content-Type": kind})
    assert status == 415
    assert "application/json" in body["error"]["message"]


def test_prompts_beyond_the_context(address: str) -> None:
    for question, message in (("a b " * 3000, "the prompt has"), ("a" * 40_000, "40000 characters")):
        status, body, _ = post(address, asked(question))
        assert (status, body["error"]["code"]) == (400, "context_length_exceeded")
        assert message in body["error"]["message"]
        assert "send less text" in body["error"]["message"] or "a shorter question" in body["error"]["message"]
    messages = [user(image(data_url(file(0))), text("a b " * 3000))]
    status, body, _ = post(address, asked(messages=messages))
    assert (status, body["error"]["code"]) == (400, "context_length_exceeded")
    assert '"detail": "low"' in body["error"]["message"]


def test_a_message_quotes_little_of_what_was_sent(address: str) -> None:
    status, body, _ = post(address, asked(**{"x" * 5000: 1}))
    assert status == 400
    assert len(body["error"]["message"]) < 700
