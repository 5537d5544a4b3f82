"""What the description of the API (OpenAPI) says of an endpoint whose body is read by hand."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, Field

FORM = "multipart/form-data"
EXAMPLE_PICTURE = (  # 2 x 2 pixels
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAFklEQVR4nGM8ISfHwMDAxMDA4PNtFQ"
    "AQfgL05Zay7QAAAABJRU5ErkJggg=="
)
REFUSALS = {
    400: "Something in the request cannot be; `param` names it.",
    401: "A key is needed.",
    403: "A form from another site.",
    404: "There is no such model.",
    408: "The body did not come in time.",
    413: "The body is too large.",
    415: "The body is of another type.",
    503: "There is too much to do, or the server ends; `Retry-After` says when to come again.",
    504: "The time of the request is over.",
}


class ErrorDetails(BaseModel):
    """What was wrong."""

    message: str
    type: str
    param: str | None = Field(description="Where in the request.")
    code: str | None


class ErrorBody(BaseModel):
    """An error in OpenAI's shape."""

    error: ErrorDetails


def described(
    request: type[BaseModel],
    response: type[BaseModel],
    names: Sequence[str],
    examples: Mapping[str, Any],
    form: bool = True,
) -> dict[str, Any]:
    """Arguments of `add_api_route` that describe an endpoint.

    Args:
        request, response: what it takes and gives.
        names: of the models that it takes.
        examples: of bodies, by name.
        form: whether it takes forms with files, too.
    """
    schema = whole_schema(request)
    optional = "model" not in schema.get("required", ())
    schema["properties"]["model"] = {**about_model(schema), "enum": [*names, *([None] if optional else [])]}
    content: dict[str, Any] = {
        "application/json": {
            "schema": _json_schema(schema),
            "examples": {name: {"value": body} for name, body in examples.items()},
        }
    }
    if form:
        content[FORM] = {"schema": _form_schema(schema)}
    refusals: dict[int | str, dict[str, Any]] = {
        status: {"model": ErrorBody, "description": text} for status, text in REFUSALS.items()
    }
    return {
        "responses": {200: {"model": response, "description": "Done."}, **refusals},
        "response_model": None,
        "openapi_extra": {"requestBody": {"required": True, "content": content}},
    }


def about_model(schema: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of the field `model`, without its type where it may be left out."""
    found = schema["properties"]["model"]
    return {key: value for key, value in found.items() if key != "anyOf"}


def whole_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of a model with nothing defined elsewhere: it is put into the middle of a larger document."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})

    def filled(part: Any) -> Any:
        if isinstance(part, list):
            return [filled(entry) for entry in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            return filled(copy.deepcopy(definitions[part["$ref"].rpartition("/")[2]]))
        return {key: filled(value) for key, value in part.items() if key != "discriminator"}

    found: dict[str, Any] = filled(schema)
    return found


def _json_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """In JSON, inputs cannot come as files: there must be some."""
    body = copy.deepcopy(schema)
    if "input" in body["properties"] and "similar_to" not in body["properties"]:
        body["properties"]["input"].pop("default", None)
        body["required"] = [*body.get("required", []), "input"]
    return body


def _form_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """Fields of a form: strings in place of parts, and files."""
    form = copy.deepcopy(schema)
    text = {"type": "string", "minLength": 1}
    several = {"anyOf": [{"type": "array", "items": text}, text]}  # the field is there several times, or once
    for name in {"input", "without"} & form["properties"].keys():
        form["properties"][name] = {**several, "description": "Texts or data: URLs."}
    files = {"type": "string", "format": "binary"}
    form["properties"]["file"] = {"type": "array", "items": files, "description": "Pictures and videos."}
    return form
