"""gRPC entrypoints on nameko-grpc, with errors that mean something to the client.

Refusals become the status code of their slug, whatever their class; what we did not mean to raise
becomes INTERNAL, and its text stays in the log.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Any

from grpc import StatusCode
from nameko_grpc import entrypoint as stock
from nameko_grpc.constants import Cardinality
from nameko_grpc.errors import GrpcError

from mesh.errors import describe

log = logging.getLogger(__name__)

CODES = {
    "validation-failed": StatusCode.INVALID_ARGUMENT,
    "not-found": StatusCode.NOT_FOUND,
    "already-exists": StatusCode.ALREADY_EXISTS,
    "out-of-stock": StatusCode.FAILED_PRECONDITION,
    "conflict": StatusCode.FAILED_PRECONDITION,
    "unauthenticated": StatusCode.UNAUTHENTICATED,
    "forbidden": StatusCode.PERMISSION_DENIED,
    "rate-limited": StatusCode.RESOURCE_EXHAUSTED,
    "unavailable": StatusCode.UNAVAILABLE,
    "deadline-exceeded": StatusCode.DEADLINE_EXCEEDED,
}
_STREAMS_OUT = (Cardinality.UNARY_STREAM, Cardinality.STREAM_STREAM)


def grpc_error(error: BaseException) -> GrpcError:
    if isinstance(error, GrpcError):
        return error
    public = describe(error)
    if public is None:
        log.error("a gRPC method failed", exc_info=error)
        return GrpcError(code=StatusCode.INTERNAL, message="internal error")
    return GrpcError(code=CODES.get(public["code"], StatusCode.UNKNOWN), message=public["message"])


class Grpc(stock.Grpc):
    def handle_result(
        self, response_stream: Any, worker_ctx: Any, result: Any, exc_info: Any
    ) -> tuple[Any, Any]:
        if exc_info is not None:
            response_stream.close(grpc_error(exc_info[1]))
            return result, exc_info
        if self.cardinality in _STREAMS_OUT:
            result = _guarded(result)
        return super().handle_result(response_stream, worker_ctx, result, exc_info)  # type: ignore[no-any-return]


def _guarded(messages: Iterable[Any]) -> Iterator[Any]:
    try:
        yield from messages
    except Exception as error:
        raise grpc_error(error) from error
