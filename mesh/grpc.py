"""gRPC entrypoints on nameko-grpc, with errors that mean something to the client.

Refusals become the status code of their slug, whatever their class; what we did not mean to raise
becomes INTERNAL, and its text stays in the log.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import eventlet
from grpc import StatusCode
from nameko_grpc import entrypoint as stock
from nameko_grpc.constants import Cardinality
from nameko_grpc.context import METADATA_PREFIX
from nameko_grpc.errors import GrpcError

from mesh.context import validated_context
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


class GrpcServer(stock.GrpcServer):
    """Takes its port alone: a second process on it would get half of the calls, unnoticed."""

    def setup(self) -> None:
        super().setup()
        self.channel.conn_pool.listen = partial(_listen, self.channel.conn_pool)


def _listen(pool: Any) -> Any:
    sock = eventlet.listen((pool.host, pool.port), reuse_port=False)
    sock.settimeout(None)
    if pool.ssl:
        return pool.ssl.server_context().wrap_socket(sock=sock, server_side=True, suppress_ragged_eofs=True)
    return sock


class Grpc(stock.Grpc):
    grpc_server = GrpcServer()

    def handle_request(self, request_stream: Any, response_stream: Any) -> None:
        """Nothing that a client sends may raise in here: it would end the process."""
        metadata = request_stream.headers.for_application
        if any(not _is_sound(name, value) for name, value in metadata):
            message = f"metadata {METADATA_PREFIX}*: expected JSON of the right type"
            response_stream.close(GrpcError(code=StatusCode.INVALID_ARGUMENT, message=message))
            return
        try:
            super().handle_request(request_stream, response_stream)
        except GrpcError as error:
            response_stream.close(error)
        except Exception as error:
            response_stream.close(grpc_error(error))

    def handle_result(
        self, response_stream: Any, worker_ctx: Any, result: Any, exc_info: Any
    ) -> tuple[Any, Any]:
        if exc_info is not None:
            response_stream.close(grpc_error(exc_info[1]))
            return result, exc_info
        if self.cardinality in _STREAMS_OUT:
            result = _guarded(result)
        return super().handle_result(response_stream, worker_ctx, result, exc_info)  # type: ignore[no-any-return]


def _is_sound(name: str, value: Any) -> bool:
    """Whether nameko-grpc can make context of a pair of metadata."""
    if not name.startswith(METADATA_PREFIX):
        return True
    key = name.removeprefix(METADATA_PREFIX)
    try:
        return key in validated_context({key: json.loads(value)})
    except (ValueError, TypeError, RecursionError):
        return False


def _guarded(messages: Iterable[Any]) -> Iterator[Any]:
    try:
        yield from messages
    except Exception as error:
        raise grpc_error(error) from error
