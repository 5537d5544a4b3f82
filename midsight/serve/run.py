"""An application on a port, until SIGTERM or Ctrl-C; what is being answered then is finished, up to a limit."""

import gc
import signal
import socket
import sys
import time
from types import FrameType

import uvicorn
from fastapi import FastAPI

from midsight.errors import InputError
from midsight.serve.door import Door
from midsight.serve.wire import HTTPProtocol


def bind(host: str, port: int) -> socket.socket:
    """A socket at an address, which does not listen yet; port 0 takes a free one.

    Raises:
        InputError: the address is not there or in use.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        bound = socket.socket(*found[:3])
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # one that just ended is no hindrance
            bound.bind(found[4])
        except OSError:
            bound.close()
            raise
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{host}:{port}: cannot listen there ({reason}); choose another --host or --port") from None
    return bound


SWITCH_SECONDS = 0.0005  # the event loop waits so long for other threads, each time; Python's own 0.005 adds up


class Server(uvicorn.Server):
    """Told to stop, it closes the application's door and ends when nobody is inside, or after `grace` seconds.

    Until then the port stays open, so that new requests hear a 503 and not a connection that is refused. A second
    signal ends it without waiting.
    """

    def __init__(self, config: uvicorn.Config, door: Door, grace: float) -> None:
        super().__init__(config)
        self._door, self._grace = door, grace
        self._end: float | None = None  # monotonic seconds

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM and Ctrl-C."""
        if self._end is not None:
            super().handle_exit(sig, frame)
            self.force_exit = self.force_exit or sig == signal.SIGINT
            return
        self._captured_signals.append(sig)
        self._door.close()
        self._end = time.monotonic() + self._grace

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: whether to end."""
        if self._end is not None and (self._door.inside == 0 or time.monotonic() > self._end):
            self.should_exit = True
            self.config.timeout_graceful_shutdown = 1  # second: the time to finish has been given
        return await super().on_tick(counter)


def server(app: FastAPI, grace: float = 30.0) -> Server:
    """A server for `run(sockets=[...])`.

    Args:
        app: what is served, of `create_app`.
        grace: seconds for which answers may go on once the server is told to stop.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.collect()
    gc.freeze()  # what is there now stays: looking through all of it again and again holds up requests for 0.1 s
    config = uvicorn.Config(
        app,
        http=HTTPProtocol,
        log_config=None,  # logging is the caller's
        access_log=False,  # the application has a line of its own
        ws="none",
        lifespan="on",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=int(max(1, grace)),
        timeout_keep_alive=10,
        h11_max_incomplete_event_size=64 << 10,  # bytes of a request's head
    )
    return Server(config, app.state.door, grace)
