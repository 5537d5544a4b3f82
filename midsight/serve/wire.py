"""Answers on their way out: what belongs together is sent together."""

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol


class Joined:
    """A transport that sends what is written to it in one turn of the event loop with one call to the system.

    uvicorn writes an answer's head and its body one after the other. Each would wake the client, which on a busy
    machine takes the CPU away from the event loop within an answer, and would let go of the interpreter's lock.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._parts: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)  # all but the following

    def write(self, data: bytes) -> None:
        """Send something, at the latest before the event loop waits."""
        if data and not self._parts:
            self._loop.call_soon(self.flush)
        if data:
            self._parts.append(data)

    def flush(self) -> None:
        """Send it now."""
        if self._parts:
            data, self._parts = b"".join(self._parts), []
            self._transport.write(data)

    def close(self) -> None:
        """Send what was written, then close."""
        self.flush()
        self._transport.close()


class HTTPProtocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]  # a variable: which one depends on what is installed
    """uvicorn's, with a `Joined` transport."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        """A client has come."""
        super().connection_made(Joined(transport, self.loop))

    def on_response_complete(self) -> None:
        """An answer has been written: it goes out at once."""
        self.transport.flush()
        super().on_response_complete()
