"""The application: services behind one door with keys, a log and errors in one shape.

create_app([ChatService(model, "Perception-LM-1B")], keys=["..."])

A service brings its endpoints and the names of its models; others can stand beside the chat.
"""

import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from typing import Literal, Protocol

from fastapi import APIRouter, FastAPI
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response

from midsight import __version__
from midsight.serve.auth import KeyCheck
from midsight.serve.door import Door, DoorCheck
from midsight.serve.errors import ApiError, answer_api_error, answer_http_error, answer_unexpected
from midsight.serve.log import LOGGER, RequestLog
from midsight.serve.metrics import CONTENT_TYPE, Metrics
from midsight.serve.openapi import ErrorBody


class Model(BaseModel):
    """A model that is served."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(BaseModel):
    """All of them."""

    object: Literal["list"]
    data: list[Model]


class State(BaseModel):
    """How the server is."""

    status: str


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


def create_app(services: Sequence[Service], keys: Sequence[str] = (), metrics: Metrics | None = None) -> FastAPI:
    """The application of these services.

    Args:
        services: what is served.
        keys: one of them must come with each request; none: everyone may ask.
        metrics: where figures go; those of an encoder, so that all are told together.
    """
    metrics = metrics or Metrics()

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        for service in services:
            service.close()
        for handler in LOGGER.handlers:
            handler.flush()  # the process may end by the signal that it was given, without a word

    # the description alone, no pages about it: theirs load scripts from elsewhere
    app = FastAPI(title="midsight", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.state.door = Door()
    app.add_exception_handler(ApiError, answer_api_error)
    app.add_exception_handler(HTTPException, answer_http_error)
    app.add_exception_handler(Exception, answer_unexpected)
    app.include_router(_common(services, app.state.door))
    app.include_router(_figures(metrics))
    for service in services:
        app.include_router(service.router())
    if keys:
        app.add_middleware(KeyCheck, keys=tuple(keys))
    app.add_middleware(DoorCheck, door=app.state.door)
    app.add_middleware(RequestLog, seen=metrics.request)  # the last one added is the first one asked
    return app


def _figures(metrics: Metrics) -> APIRouter:
    router = APIRouter()

    @router.get("/metrics", response_class=PlainTextResponse)
    async def show_metrics() -> Response:
        """Figures for Prometheus."""
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    return router


def _common(services: Sequence[Service], door: Door) -> APIRouter:
    router = APIRouter()
    started = int(time.time())
    names = [name for service in services for name in service.names]
    models = {name: Model(id=name, object="model", created=started, owned_by="midsight") for name in names}

    @router.get("/v1/models")
    async def list_models() -> ModelList:
        """Models that requests may name."""
        return ModelList(object="list", data=list(models.values()))

    @router.get("/v1/models/{name:path}", responses={404: {"model": ErrorBody}})
    async def show_model(name: str) -> Model:
        """One of them."""
        if name not in models:
            raise ApiError(
                404, f"there is no model {name!r} here, only {', '.join(models)}", "model_not_found", "model"
            )
        return models[name]

    @router.get("/health", include_in_schema=False)
    @router.get("/healthz")
    async def health() -> State:
        """Whether the process lives."""
        return State(status="ok")

    @router.get("/ready", include_in_schema=False)
    @router.get("/readyz", responses={503: {"model": State}})
    async def ready(response: Response) -> State:
        """Whether requests are taken."""
        all_ready = door.open and all(service.ready for service in services)
        response.status_code = 200 if all_ready else 503
        return State(status="ready" if all_ready else "not ready")

    return router
