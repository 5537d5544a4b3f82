"""Errors as OpenAI's API writes them: {"error": {"message", "type", "param", "code"}}.

Source: OpenAI's API reference, "Error codes".
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match

from midsight.serve.log import note

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
LONGEST = 600  # characters of a message: it may quote what was sent


@dataclass
class ApiError(Exception):
    """An answer other than 200."""

    status: int
    message: str
    code: str | None = None
    param: str | None = None  # where in the request, as messages.0.content
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def body(self) -> dict[str, dict[str, str | None]]:
        """What is sent."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        message = self.message if len(self.message) <= LONGEST else self.message[:LONGEST] + " ..."
        return {"error": {"message": message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        """The whole answer."""
        return JSONResponse(self.body, self.status, headers=dict(self.headers))


# The answers are coroutines: a plain function would run in a thread of its own, and on a busy machine a refusal would
# wait for that thread's turn as well as for the event loop's.


async def answer_api_error(request: Request, error: Exception) -> Response:
    """For the application: an ApiError, whoever raised it; its code goes to the log."""
    assert isinstance(error, ApiError)
    note(request.scope, error=error.code)
    return error.response()


async def answer_http_error(request: Request, error: Exception) -> Response:
    """For the application: an address or a method that is not there."""
    status = int(getattr(error, "status_code", 500))
    said = {404: "there is no such address", 405: f"{request.method} is not possible here"}
    message = said.get(status, str(getattr(error, "detail", "")))
    headers = getattr(error, "headers", None) or {}
    if status == 405:
        headers = {**headers, "Allow": ", ".join(_methods(request))}
    return ApiError(status, message, "not_found" if status == 404 else None, headers=headers).response()


def _methods(request: Request) -> list[str]:
    """Methods of an address: each may have a route of its own, and the application names those of the first alone."""

    def taken(method: str) -> bool:
        scope = {**request.scope, "method": method}
        return any(route.matches(scope)[0] == Match.FULL for route in request.app.routes)

    return [method for method in METHODS if taken(method)]


async def answer_unexpected(_: Request, __: Exception) -> Response:
    """For the application: a fault of the server, about which the client learns nothing more."""
    return ApiError(500, "the server failed; its log says more", "internal_error").response()
