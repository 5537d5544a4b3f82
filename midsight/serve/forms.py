"""Bodies of requests to the encoder: JSON, or a form with files (multipart/form-data), into one pydantic model."""

from collections.abc import AsyncGenerator
from typing import Any, TypeVar, get_origin
from urllib.parse import urlsplit

from pydantic import BaseModel
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from midsight.serve.errors import ApiError
from midsight.serve.limits import EncoderLimits, content_type, read_body
from midsight.serve.schema import field_errors

M = TypeVar("M", bound=BaseModel)
FORM = "multipart/form-data"
FILES = "file"  # the field of uploads; it may be repeated
FIELDS = 2000  # of a form: labels are one each


async def read_request(request: Request, model: type[M], limits: EncoderLimits) -> tuple[M, list[bytes]]:
    """The request in a body, and the files uploaded with it.

    Raises:
        ApiError: 400 a field that cannot be, 413 too large, 415 neither JSON nor a form, 408 too slow; 403 a form that
            another site's page has sent.
    """
    kind = content_type(request)
    if kind not in ("application/json", FORM):  # a browser sends other types across sites without asking first
        raise ApiError(415, f"the body must be application/json or {FORM}, got {kind or 'no Content-Type'}")
    if kind == FORM:
        _check_site(request)
    body = await read_body(request, limits.max_body_bytes)
    if kind == FORM:
        fields, files = await _form(request, body, model, limits)
        with field_errors():
            return model.model_validate(fields, strict=False), files  # in a form, numbers are texts
    with field_errors():
        return model.model_validate_json(body), []


def _check_site(request: Request) -> None:
    """A page of another site can send forms without asking, and must not use a server that it could not read."""
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise ApiError(403, "a form from another site is not taken; send JSON, which needs that site's permission")


async def _form(
    request: Request, body: bytes, model: type[BaseModel], limits: EncoderLimits
) -> tuple[dict[str, Any], list[bytes]]:
    """Fields by name, lists where the model has lists, and the files."""

    async def whole() -> AsyncGenerator[bytes, None]:
        yield body

    parser = MultiPartParser(
        request.headers, whole(), max_files=limits.max_inputs, max_fields=FIELDS, max_part_size=len(body) + 1
    )
    parser.spool_max_size = len(body) + 1  # the body is in memory already: nothing goes to the disk
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError) as error:
        raise ApiError(400, f"the form cannot be read: {getattr(error, 'message', 'no boundary')}") from None
    try:
        return await _sorted(form, model)
    finally:
        await form.close()


async def _sorted(form: FormData, model: type[BaseModel]) -> tuple[dict[str, Any], list[bytes]]:
    fields: dict[str, Any] = {}
    files: list[bytes] = []
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            if name != FILES:
                raise ApiError(400, f"{name:.100}: files belong in the field {FILES!r}", "invalid_value", FILES)
            files.append(await value.read())
        elif name in model.model_fields and _is_list(model, name):
            fields.setdefault(name, []).append(value)
        elif name in fields:
            raise ApiError(400, f"{name:.100}: is there more than once", "invalid_value", name[:100])
        else:
            fields[name] = value
    return fields, files


def _is_list(model: type[BaseModel], name: str) -> bool:
    return get_origin(model.model_fields[name].annotation) is list
