"""One line of JSON for each request: what it cost and how it ended, nothing of what it said."""

import json
import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from typing import Any, TextIO

from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOGGER = logging.getLogger("midsight.serve")
NOTES = "midsight.notes"  # where handlers add figures to the line
GATHER = 0.05  # seconds for which lines wait for others, to be written together
GONE = 499  # the client left before there was an answer


def note(scope: Scope, **figures: Any) -> None:
    """Add figures to the request's line."""
    scope.setdefault(NOTES, {}).update(figures)


class LineHandler(logging.Handler):
    """Writes lines in a thread of its own: the event loop neither waits for a reader that is slow nor wakes it up.

    Warnings and worse are written at once, with all that came before them. `flush` writes what is left at the end.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._lines: deque[str] = deque()
        self._writing = threading.Lock()
        self._some = threading.Event()
        threading.Thread(target=self._run, name="midsight-log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Takes a line."""
        self._lines.append(self.format(record) + "\n")
        if record.levelno >= logging.WARNING:
            self.flush()
        elif not self._some.is_set():
            self._some.set()

    def flush(self) -> None:
        """Writes what there is."""
        with self._writing:  # not the handler's own lock, for which `emit` would have to wait
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            if lines:
                self._stream.write("".join(lines))
                self._stream.flush()

    def _run(self) -> None:
        while True:
            self._some.wait()
            time.sleep(GATHER)
            self._some.clear()
            self.flush()


class RequestLog:
    """ASGI middleware: a line when a request has ended; its name (x-request-id) and time (server-timing) as headers."""

    def __init__(self, app: ASGIApp, seen: Callable[[str | None, int, float], None] | None = None) -> None:
        """`seen` is told the pattern of the path, the status and the seconds of each request."""
        self.app, self._seen = app, seen

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, name, status = time.monotonic(), uuid.uuid4().hex, GONE
        notes = scope[NOTES] = {}

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                taken = f"app;dur={1000 * (time.monotonic() - start):.1f}"  # milliseconds until the answer begins
                added = [(b"x-request-id", name.encode()), (b"server-timing", taken.encode())]
                message["headers"] = [*message.get("headers", []), *added]
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            seconds = time.monotonic() - start
            path = getattr(scope.get("route"), "path", None)  # the pattern: an unknown address is not repeated
            if self._seen is not None:
                self._seen(path, status, seconds)
            line = {
                "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "id": name,
                "method": scope["method"],
                "path": path,
                "status": status,
                "seconds": round(seconds, 3),
                **notes,
            }
            LOGGER.info(json.dumps(line))
