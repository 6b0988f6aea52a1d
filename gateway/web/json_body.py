"""JSON bodies: validated in one pass over their bytes, and only once the caller is known.

FastAPI's own body parameters are decoded before any dependency runs, by the lenient `json` of the
standard library: a stranger could make the gateway parse, and `NaN` would be a number.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from fastapi import Request
from pydantic import TypeAdapter, ValidationError
from starlette.requests import ClientDisconnect

from .problems import Problem, problem_from_validation

Model = TypeVar("Model")

_REFERENCE = "#/components/schemas/{model}"
_schemas: dict[str, Any] = {}


def register_schema(adapter: TypeAdapter[Any]) -> dict[str, Any]:
    """The schema of a model, as one refers to it; `add_schemas` puts the model itself into the document."""
    schema = adapter.json_schema(ref_template=_REFERENCE)
    _schemas.update(schema.pop("$defs", {}))
    if "title" not in schema:
        return schema
    _schemas[schema["title"]] = schema
    return {"$ref": _REFERENCE.format(model=schema["title"])}


class JsonBody(Generic[Model]):
    """A dependency that answers the request's body as a `Model`. Raises Problem.

    `openapi` is what the route's operation says of it; `add_schemas` completes the document.
    """

    def __init__(self, model: Any) -> None:
        self._adapter: TypeAdapter[Model] = TypeAdapter(model)
        schema = register_schema(self._adapter)
        self.openapi: dict[str, Any] = {
            "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}
        }

    async def __call__(self, request: Request) -> Model:
        content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        body = await _read(request)
        if content_type != "application/json" and (content_type or body):
            raise Problem("unsupported-media-type", "Content-Type: it has to be application/json")
        try:
            return self._adapter.validate_json(body)
        except ValidationError as error:
            raise problem_from_validation(error.errors(include_url=False, include_context=False)) from None


async def _read(request: Request) -> bytes:
    """What `request.body()` does, without a generator between. Raises ClientDisconnect."""
    parts: list[bytes] = []
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def add_schemas(document: dict[str, Any]) -> dict[str, Any]:
    """Add the registered schemas to an OpenAPI document, beside the schemas that FastAPI has found."""
    document["components"]["schemas"] = dict(
        sorted({**document["components"]["schemas"], **_schemas}.items())
    )
    return document
