"""An application on a port, until SIGTERM or Ctrl-C; what is being answered then is finished, up to a limit."""

import socket

import uvicorn
from fastapi import FastAPI

from midsight.errors import InputError


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


def server(app: FastAPI, grace: float = 30.0) -> uvicorn.Server:
    """A server for `run(sockets=[...])`.

    Args:
        app: what is served.
        grace: seconds for which answers may go on once the server is told to stop.
    """
    config = uvicorn.Config(
        app,
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
    return uvicorn.Server(config)
