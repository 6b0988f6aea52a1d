"""What a gRPC client is told when a call fails: a status code, a message, and details for programs.

Refusals become the status code of their slug, or of the nearest slug up the hierarchy of their class;
what we did not mean to raise becomes INTERNAL, and its text stays in the log. The details are google.rpc's:
ErrorInfo with the slug as its reason (not-found is NOT_FOUND, as AIP-193 wants it), BadRequest with
the field.
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
"""Clients take some thousand bytes of headers, and no answer at all when there are more."""


def grpc_error(error: BaseException, domain: str = "") -> GrpcError:
    """`domain` says whose slugs they are: the name of the service.

    What is registered with nameko-grpc's `register_exception_handler` counts for subclasses too.
    """
    if isinstance(error, GrpcError):
        return error
    for cls in type(error).__mro__:
        if (make := registry.get(cls)) is not None:
            return make((type(error), error, error.__traceback__), None, None)
    if isinstance(error, ContainerBeingKilled):
        return GrpcError(StatusCode.UNAVAILABLE, "the server shuts down")
    public = describe(error)
    if public is None:
        log.error("a gRPC method failed", exc_info=error)
        return GrpcError(StatusCode.INTERNAL, "internal error")
    code, message = _code_of(error, public["code"]), public["message"][:_MAX_MESSAGE_LENGTH]
    details = _details(public["code"], message, public.get("field"), domain)
    return GrpcError(code, message, Status(code=code.value[0], message=message, details=details))


def _code_of(error: BaseException, slug: str) -> StatusCode:
    inherited = (vars(cls).get("slug") for cls in type(error).__mro__)
    known = (CODES[one] for one in (slug, *inherited) if one in CODES)
    return next(known, StatusCode.FAILED_PRECONDITION)  # a service's own slug: its state forbids the call


def _details(slug: str, message: str, field: str | None, domain: str) -> list[AnyMessage]:
    told = [ErrorInfo(reason=slug.upper().replace("-", "_"), domain=domain)]
    if field is not None:
        violation = BadRequest.FieldViolation(field=field[:_MAX_MESSAGE_LENGTH], description=message)
        told.append(BadRequest(field_violations=[violation]))
    details = [AnyMessage() for _ in told]
    for packed, one in zip(details, told, strict=True):
        packed.Pack(one)
    return details
