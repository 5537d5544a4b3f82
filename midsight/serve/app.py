"""The application: services behind one door with keys, a log and errors in one shape.

create_app([ChatService(model, "Perception-LM-1B")], keys=["..."])

A service brings its endpoints and the names of its models; others can stand beside the chat.
"""

import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

from fastapi import APIRouter, FastAPI
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from midsight.serve.auth import KeyCheck
from midsight.serve.errors import ApiError, answer_api_error, answer_http_error, answer_unexpected
from midsight.serve.log import RequestLog


class Service(Protocol):
    """Endpoints with their models."""

    @property
    def names(self) -> Sequence[str]:
        """Models, as requests name them."""
        ...

    @property
    def ready(self) -> bool:
        """Whether requests are taken."""
        ...

    def router(self) -> APIRouter:
        """The endpoints."""
        ...

    def close(self) -> None:
        """Called at the end; what runs should end soon."""
        ...


def create_app(services: Sequence[Service], keys: Sequence[str] = ()) -> FastAPI:
    """The application of these services.

    Args:
        services: what is served.
        keys: one of them must come with each request; none: everyone may ask.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        for service in services:
            service.close()

    # no pages about the API: theirs load scripts from elsewhere
    app = FastAPI(title="midsight", openapi_url=None, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.add_exception_handler(ApiError, answer_api_error)
    app.add_exception_handler(HTTPException, answer_http_error)
    app.add_exception_handler(Exception, answer_unexpected)
    app.include_router(_common(services))
    for service in services:
        app.include_router(service.router())
    if keys:
        app.add_middleware(KeyCheck, keys=tuple(keys))
    app.add_middleware(RequestLog)  # the last one added is the first one asked
    return app


def _common(services: Sequence[Service]) -> APIRouter:
    router = APIRouter()
    started = int(time.time())
    names = [name for service in services for name in service.names]
    models = {name: {"id": name, "object": "model", "created": started, "owned_by": "midsight"} for name in names}

    @router.get("/v1/models")
    async def list_models() -> dict[str, Any]:
        return {"object": "list", "data": list(models.values())}

    @router.get("/v1/models/{name:path}")
    async def show_model(name: str) -> dict[str, Any]:
        if name not in models:
            raise ApiError(
                404, f"there is no model {name!r} here, only {', '.join(models)}", "model_not_found", "model"
            )
        return models[name]

    @router.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @router.get("/ready")
    async def ready() -> JSONResponse:
        all_ready = all(service.ready for service in services)
        return JSONResponse({"status": "ready" if all_ready else "not ready"}, 200 if all_ready else 503)

    return router
