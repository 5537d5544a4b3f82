"""The way in: requests that are inside are counted, and a door that is closed lets no more in."""

from starlette.types import ASGIApp, Receive, Scope, Send

from midsight.serve.auth import OPEN
from midsight.serve.errors import ApiError


class Door:
    """Open until the server is told to stop. For the event loop's thread."""

    def __init__(self) -> None:
        self.open = True
        self.inside = 0

    def close(self) -> None:
        """No more requests."""
        self.open = False


class DoorCheck:
    """ASGI middleware: 503 behind a closed door, except for those who watch the server."""

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self.app, self._door = app, door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN:
            await self.app(scope, receive, send)
            return
        if not self._door.open:
            headers = {"Retry-After": "5", "Connection": "close"}
            refused = ApiError(503, "the server is being stopped", "stopping", headers=headers)
            await refused.response()(scope, receive, send)
            return
        self._door.inside += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self._door.inside -= 1
