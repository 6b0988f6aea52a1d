"""Turns exceptions into gRPC errors: a status code, a message, and details for programs.

A refusal gets the status code of its slug, or of the nearest slug among its base classes. An unexpected
exception becomes INTERNAL, and its text stays in the log. The details are those of google.rpc: ErrorInfo with
the slug as its reason (not-found is NOT_FOUND, by AIP-193), and BadRequest with the field.
"""

from __future__ import annotations

import logging

from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode
from nameko.exceptions import ContainerBeingKilled
from nameko_grpc.errors import GrpcError, registry

from nameko_mesh.errors import describe

log = logging.getLogger(__name__)

CODES = {
    "validation-failed": StatusCode.INVALID_ARGUMENT,
    "not-found": StatusCode.NOT_FOUND,
    "already-exists": StatusCode.ALREADY_EXISTS,
    "conflict": StatusCode.FAILED_PRECONDITION,
    "unauthenticated": StatusCode.UNAUTHENTICATED,
    "forbidden": StatusCode.PERMISSION_DENIED,
    "rate-limited": StatusCode.RESOURCE_EXHAUSTED,
    "unavailable": StatusCode.UNAVAILABLE,
    "deadline-exceeded": StatusCode.DEADLINE_EXCEEDED,
}
_MAX_MESSAGE_LENGTH = 1000
"""Clients accept some thousand bytes of headers. With more bytes, a client gets no response."""


def grpc_error(error: BaseException, domain: str = "") -> GrpcError:
    """Return the gRPC error for an exception. `domain` is the name of the service, which owns the slugs.

    Handlers of nameko-grpc's `register_exception_handler` apply to subclasses too.
    """
    if isinstance(error, GrpcError):
        return error
    for cls in type(error).__mro__:
        if (make := registry.get(cls)) is not None:
            return make((type(error), error, error.__traceback__), None, None)
    if isinstance(error, ContainerBeingKilled):
        return GrpcError(StatusCode.UNAVAILABLE, "the server is shutting down")
    public = describe(error)
    if public is None:
        log.error("a gRPC method failed", exc_info=error)
        return GrpcError(StatusCode.INTERNAL, "internal error")
    code, message = _code_of(error, public["code"]), public["message"][:_MAX_MESSAGE_LENGTH]
    details = _details(public["code"], message, public.get("field"), domain)
    return GrpcError(code, message, Status(code=code.value[0], message=message, details=details))


def _code_of(error: BaseException, slug: str) -> StatusCode:
    inherited = (vars(cls).get("slug") for cls in type(error).__mro__)
    codes = (CODES[known] for known in (slug, *inherited) if known in CODES)
    return next(codes, StatusCode.FAILED_PRECONDITION)  # a service's own slug: its state forbids the call


def _details(slug: str, message: str, field: str | None, domain: str) -> list[AnyMessage]:
    contents = [ErrorInfo(reason=slug.upper().replace("-", "_"), domain=domain)]
    if field is not None:
        violation = BadRequest.FieldViolation(field=field[:_MAX_MESSAGE_LENGTH], description=message)
        contents.append(BadRequest(field_violations=[violation]))
    details = [AnyMessage() for _ in contents]
    for detail, content in zip(details, contents, strict=True):
        detail.Pack(content)
    return details
