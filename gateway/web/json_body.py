"""JSON bodies, validated in one pass over their bytes after the caller is authenticated.

FastAPI's own body parameters are decoded before any dependency runs, by the lenient `json` of the standard
library. A client without a token could then make the gateway parse its body, and `NaN` would be a number.
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
    """Register the schema of a model for `add_schemas`. Return a reference to it.

    A schema without a title is not registered but returned itself.
    """
    schema = adapter.json_schema(ref_template=_REFERENCE)
    _schemas.update(schema.pop("$defs", {}))
    if "title" not in schema:
        return schema
    _schemas[schema["title"]] = schema
    return {"$ref": _REFERENCE.format(model=schema["title"])}


def add_schemas(document: dict[str, Any]) -> dict[str, Any]:
    """Add the registered schemas to an OpenAPI document, beside the schemas of FastAPI."""
    schemas = {**document["components"]["schemas"], **_schemas}
    document["components"]["schemas"] = dict(sorted(schemas.items()))
    return document


class JsonBody(Generic[Model]):
    """A dependency that returns the request's body as a `Model`. Raises Problem.

    `openapi` describes the body in the route's operation. `add_schemas` completes the document.
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
            raise Problem("unsupported-media-type", "Content-Type: expected application/json")
        try:
            return self._adapter.validate_json(body)
        except ValidationError as error:
            errors = error.errors(include_url=False, include_context=False)
            raise problem_from_validation(errors) from None


async def _read(request: Request) -> bytes:
    """Return the body as `request.body()` does, but without its generator. Raises ClientDisconnect."""
    parts: list[bytes] = []
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)
