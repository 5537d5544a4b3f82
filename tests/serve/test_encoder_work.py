"""An encoder under load: queue, time of a request, callers that leave, rest and return of the model, the end."""

import json
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import midsight
from midsight.serve import EmbeddingService, Encoder, EncoderLimits, create_app
from midsight.serve.run import bind
from midsight.serve.run import server as make_server
from tests.serve import server
from tests.serve.server import Served, data_url, file, post

BODY = {"input": data_url(file(0))}


@contextmanager
def held(served: Served, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """The model stops at its next batch until the function given is called; `served` has one request in it then."""
    go, entered = threading.Event(), threading.Event()
    model = served.encoder._model
    assert model is not None
    real = model._encode

    def waiting(images: Any) -> Any:
        entered.set()
        assert go.wait(30)
        return real(images)

    monkeypatch.setattr(model, "_encode", waiting)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(served.post, BODY)
        assert entered.wait(20)
        try:
            yield go.set
        finally:
            go.set()
            assert first.result()[0] in (200, 504)


def test_the_queue_is_bounded_and_says_when_to_come_again(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with server.serving_encoder(tiny_folder, EncoderLimits(queue=3)) as served:
        with held(served, monkeypatch) as go, ThreadPoolExecutor(2) as pool:
            waiting = [pool.submit(served.post, BODY) for _ in range(2)]
            server.until(lambda: served.encoder._places.now.requests == 3)
            for _ in range(20):
                start = time.monotonic()
                status, body, headers = served.post(BODY)
                assert time.monotonic() - start < 1  # 50 ms where nothing else runs
                assert (status, body["error"]["code"]) == (503, "queue_full")
                assert int(headers["Retry-After"]) > 0
            go()
            assert [done.result()[0] for done in waiting] == [200, 200]
        assert served.post(BODY)[0] == 200  # places are given back


def test_bodies_and_pictures_in_memory_are_bounded(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(json.dumps({"model": "tiny", **BODY}))
    with (
        server.serving_encoder(tiny_folder, EncoderLimits(bodies=3 * size, waiting=2)) as served,
        held(served, monkeypatch),
    ):
        status, body, _ = served.post({"input": "a" * 4 * size})
        assert (status, body["error"]["message"].partition(" are")[0]) == (503, f"requests of {3 * size} bytes in all")
        small = data_url(file(1, height=4, width=4))
        status, body, _ = served.post({"input": [small, small]})
        assert (status, body["error"]["message"].partition(",")[0]) == (503, "1 pictures and frames wait")


def test_refused_requests_give_their_place_back(tiny_folder: Path) -> None:
    with server.serving_encoder(tiny_folder, EncoderLimits(queue=1)) as served:
        for body in (b"", {"input": []}, {"input": data_url(file(0)[:60])}, {"input": "a", "colour": 1}):
            for _ in range(3):
                assert served.post(body)[0] == 400
        assert served.post(BODY)[0] == 200
        assert served.encoder._places.now.requests == 0


def test_nothing_is_answered_behind_its_time(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with server.serving_encoder(tiny_folder, EncoderLimits(timeout=0.5)) as served:
        with held(served, monkeypatch), ThreadPoolExecutor(4) as pool:
            start = time.monotonic()
            for status, body, _ in pool.map(served.post, [BODY] * 4):
                assert (status, body["error"]["code"]) == (504, "timeout")
                assert "within 0.5 seconds" in body["error"]["message"]
            assert 0.4 < time.monotonic() - start < 2
        server.until(lambda: server_figures(served).get('midsight_dropped_total{reason="late"}') == 4.0)
        assert served.post(BODY)[0] == 200


def server_figures(served: Served) -> dict[str, float]:
    lines = served.encoder.metrics.text().decode().splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


def test_a_body_that_does_not_come_costs_no_more_than_the_time_of_a_request(tiny_folder: Path) -> None:
    head = "POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    with (
        server.serving_encoder(tiny_folder, EncoderLimits(timeout=0.3)) as served,
        socket.create_connection(("127.0.0.1", served.port), timeout=20) as connection,
    ):
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 504 ")
        assert served.encoder._places.now.requests == 0


def test_work_of_callers_that_have_gone_is_dropped(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = json.dumps({"model": "tiny", **BODY}).encode()
    head = f"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    with server.serving_encoder(tiny_folder) as served:
        with held(served, monkeypatch):
            for _ in range(5):
                with socket.create_connection(("127.0.0.1", served.port)) as connection:
                    connection.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
                    server.until(lambda: served.encoder._places.now.requests == 2)
                server.until(lambda: served.encoder._places.now.requests == 1)
        assert served.post(BODY)[0] == 200
        figures = server_figures(served)
        assert figures['midsight_dropped_total{reason="gone"}'] == 5.0
        assert figures['midsight_batch_size_sum{kind="image"}'] == 2.0


def test_an_idle_model_leaves_the_memory_and_comes_back(
    tiny_folder: Path, tiny_model: midsight.Perception, caplog: pytest.LogCaptureFixture
) -> None:
    expected = tiny_model.embed_images([file(0)])
    with server.serving_encoder(tiny_folder, unload_after=0.2) as served:
        for _ in range(2):
            np.testing.assert_allclose(served.embed(BODY["input"]), expected, atol=1e-6)
            model = served.encoder._model
            assert model is not None
            parts = [weakref.ref(part) for part in (model, model.model, *model.model.parameters())]
            del model
            server.until(lambda: not any(part() for part in parts))  # noqa: B023
            assert server.get(served.address, "/readyz")[0] == 200
            assert server_figures(served)["midsight_model_loaded"] == 0.0
        status, body, _ = served.post({"input": BODY["input"], "labels": ["a", "b"]}, "/v1/classify")
        assert status == 200
        assert [one["label"] for one in body["data"][0]["predictions"]] == [
            one.label for one in tiny_model.classify([file(0)], ["a", "b"])[0]
        ]
    assert "was loaded again" in caplog.text


def test_a_model_that_does_not_come_back_is_told(tiny_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    loads = iter([midsight.load(tiny_folder, device="cpu", threads=1)])

    def load() -> midsight.Perception:
        for model in loads:
            return model
        raise midsight.errors.CheckpointError("model.safetensors: no such file")

    encoder = Encoder(load, unload_after=0.1, decoder=None)
    with server.serving_app(create_app([EmbeddingService(encoder)])) as address:
        server.until(lambda: not encoder.loaded)
        assert post(address, {"model": "tiny", "input": "a"}, path="/v1/embeddings")[0] == 500
        assert "no such file" in caplog.text


def test_a_server_told_to_stop_finishes_and_refuses(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As SIGTERM does it: what runs is answered, new requests hear 503, and the end comes by itself."""
    encoder = Encoder(lambda: midsight.load(tiny_folder, device="cpu", threads=1), decoder=None)
    app = create_app([EmbeddingService(encoder)])
    with bind("127.0.0.1", 0) as listening:
        running = make_server(app, grace=20)
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
        thread.start()
        server.until(lambda: running.started)
        served = Served(f"http://127.0.0.1:{listening.getsockname()[1]}", encoder)
        with held(served, monkeypatch) as go:
            running.handle_exit(15, None)
            running._captured_signals.clear()  # this thread's process goes on
            for _ in range(3):
                status, body, headers = served.post(BODY)
                assert (status, body["error"]["code"]) == (503, "stopping")
                assert "Retry-After" in headers
            assert server.get(served.address, "/readyz")[0] == 503
            assert server.get(served.address, "/healthz")[0] == 200
            go()
        thread.join(10)
        assert not thread.is_alive()
        assert not encoder.ready


def test_a_server_that_cannot_finish_ends_after_its_grace(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = time.monotonic()
    with server.serving_encoder(tiny_folder, EncoderLimits(timeout=1.0)) as served, held(served, monkeypatch):
        pass
    assert time.monotonic() - start < 10
