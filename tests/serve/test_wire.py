"""How answers and lines of the log leave the server."""

import asyncio
import inspect
import io
import logging
import socket
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from midsight.serve import create_app
from midsight.serve.log import LineHandler
from midsight.serve.wire import Joined
from tests.serve.server import serving_app, until


class Transport:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.sent.append(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


def test_writes_of_one_turn_leave_together() -> None:
    asyncio.run(_writes())


async def _writes() -> None:
    transport: Any = Transport()
    joined = Joined(transport, asyncio.get_running_loop())
    joined.write(b"head")
    joined.write(b"")
    joined.write(b"body")
    assert transport.sent == []
    await asyncio.sleep(0)
    assert transport.sent == [b"headbody"]
    joined.write(b"more")
    joined.flush()
    await asyncio.sleep(0)
    joined.write(b"last")
    joined.close()
    await asyncio.sleep(0)
    assert transport.sent == [b"headbody", b"more", b"last"]
    assert joined.is_closing()


def test_an_answer_comes_whole_and_a_stream_is_not_held_back() -> None:
    app = create_app([])
    more = threading.Event()

    async def stream(_: Request) -> Response:
        async def parts() -> AsyncIterator[bytes]:
            yield b"first"
            while not more.is_set():
                await asyncio.sleep(0.01)
            yield b"second"

        return StreamingResponse(parts())

    app.router.add_route("/stream", stream)
    with serving_app(app) as address, socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))) as asked:
        asked.settimeout(20)
        for _ in range(20):
            asked.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = asked.recv(65536)  # one piece
            assert answer.startswith(b"HTTP/1.1 200")
            assert answer.endswith(b'{"status":"ok"}')
        asked.sendall(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        seen = b""
        while b"first" not in seen:
            seen += asked.recv(65536)
        assert b"second" not in seen
        more.set()
        while b"second" not in seen:
            seen += asked.recv(65536)


def test_lines_are_written_by_another_thread_and_warnings_at_once() -> None:
    class Slow(io.StringIO):
        writers: list[str] = []

        def write(self, text: str) -> int:
            self.writers.append(threading.current_thread().name)
            time.sleep(0.2)  # a reader that does not keep up
            return super().write(text)

    stream = Slow()
    handler = LineHandler(stream)
    log = logging.Logger("lines")
    log.addHandler(handler)
    start = time.monotonic()
    for number in range(100):
        log.info("%d", number)
    assert time.monotonic() - start < 0.1
    until(lambda: stream.getvalue().count("\n") == 100)
    assert stream.getvalue().split() == [str(number) for number in range(100)]
    assert set(stream.writers) == {"midsight-log"}
    log.info("before")
    log.warning("at once")
    assert stream.getvalue().endswith("before\nat once\n")
    log.info("the end")
    handler.flush()
    assert stream.getvalue().endswith("the end\n")


def test_no_refusal_waits_for_a_thread() -> None:
    """Starlette runs plain functions in threads, which have to get a CPU first."""
    handlers = create_app([]).exception_handlers
    ours = [handler for handler in handlers.values() if handler.__module__.startswith("midsight")]
    assert len(ours) == 3
    assert all(map(inspect.iscoroutinefunction, ours))
