"""gRPC entrypoints on nameko-grpc, with errors that mean something to the client.

Refusals become the status code of their slug, whatever their class; what we did not mean to raise
becomes INTERNAL, and its text stays in the log.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from eventlet import hubs
from grpc import StatusCode
from nameko.exceptions import ContainerBeingKilled
from nameko_grpc import entrypoint as stock
from nameko_grpc.compression import SUPPORTED_ENCODINGS
from nameko_grpc.constants import Cardinality
from nameko_grpc.context import METADATA_PREFIX, GrpcContext, context_data_from_metadata
from nameko_grpc.errors import GrpcError
from nameko_grpc.inspection import Inspector
from nameko_grpc.timeout import unbucket_timeout

from mesh.context import validated_context
from mesh.errors import describe
from mesh.http2 import ConnectionPool

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
_LONGEST_SECONDS = 86400.0
_STREAMS_IN = (Cardinality.STREAM_UNARY, Cardinality.STREAM_STREAM)
_STREAMS_OUT = (Cardinality.UNARY_STREAM, Cardinality.STREAM_STREAM)


def grpc_error(error: BaseException) -> GrpcError:
    if isinstance(error, GrpcError):
        return error
    if isinstance(error, ContainerBeingKilled):
        return GrpcError(code=StatusCode.UNAVAILABLE, message="the server shuts down")
    public = describe(error)
    if public is None:
        log.error("a gRPC method failed", exc_info=error)
        return GrpcError(code=StatusCode.INTERNAL, message="internal error")
    return GrpcError(code=CODES.get(public["code"], StatusCode.UNKNOWN), message=public["message"])


class GrpcServer(stock.GrpcServer):
    def setup(self) -> None:
        super().setup()
        pool = self.channel.conn_pool
        self.channel.conn_pool = ConnectionPool(
            pool.host, pool.port, pool.ssl, pool.spawn_thread, pool.handle_request
        )

    def leave(self) -> None:
        self.channel.conn_pool.leave()

    def handle_request(self, request_stream: Any, response_stream: Any) -> None:
        """Raises GrpcError for a call that can't begin."""
        headers = request_stream.headers
        entrypoint = self.entrypoints.get(headers.get(":path"))
        if entrypoint is None:
            raise GrpcError(StatusCode.UNIMPLEMENTED, "Method not found!")
        encoding = headers.get("grpc-encoding", "identity")
        if encoding not in SUPPORTED_ENCODINGS:
            raise GrpcError(StatusCode.UNIMPLEMENTED, f"Algorithm not supported: {encoding}")
        if told := headers.get("grpc-timeout"):
            seconds = _seconds(told)
            response_stream.deadline = time.time() + seconds
            # A timer of the hub: unlike a green thread that waits, it can be cancelled without a switch.
            response_stream.timer = hubs.get_hub().schedule_call_global(
                seconds, _expire, request_stream, response_stream
            )
        handle = partial(entrypoint.handle_request, request_stream, response_stream)
        self.container.spawn_managed_thread(handle, identifier=f"grpc {entrypoint.method_name}")


def _seconds(told: str) -> float:
    try:
        return min(float(unbucket_timeout(told)), _LONGEST_SECONDS)
    except (ValueError, KeyError, IndexError, OverflowError):
        raise GrpcError(StatusCode.INVALID_ARGUMENT, "grpc-timeout: expected digits and a unit") from None


def _expire(request_stream: Any, response_stream: Any) -> None:
    request_stream.close()
    response_stream.close(GrpcError(StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded"))


class Grpc(stock.Grpc):
    grpc_server = GrpcServer()

    input_type: Any = None
    cardinality: Any = None

    def setup(self) -> None:
        inspector = Inspector(self.stub)
        self.input_type = inspector.input_type_for_method(self.method_name)
        self.cardinality = inspector.cardinality_for_method(self.method_name)
        super().setup()

    def stop(self) -> None:
        """It answers to the end: a call that was made before the goodbye is no unknown method."""

    def handle_request(self, request_stream: Any, response_stream: Any) -> None:
        """Nothing that a client sends may raise in here: it would end the process."""
        try:
            self._handle(request_stream, response_stream)
        except Exception as error:
            response_stream.close(grpc_error(error))

    def _handle(self, request_stream: Any, response_stream: Any) -> None:
        metadata = request_stream.headers.for_application
        if any(not _is_sound(name, value) for name, value in metadata):
            message = f"metadata {METADATA_PREFIX}*: expected JSON of the right type"
            raise GrpcError(StatusCode.INVALID_ARGUMENT, message)
        request = request_stream.consume(self.input_type)
        if self.cardinality not in _STREAMS_IN:
            request = next(request, None)
            if request is None:
                raise GrpcError(StatusCode.INVALID_ARGUMENT, "there is no request")
        context = GrpcContext(request_stream, response_stream)
        data = context_data_from_metadata(metadata)
        if response_stream.deadline is not None:
            data["deadline"] = min(response_stream.deadline, data.get("deadline", response_stream.deadline))
        self.container.spawn_worker(
            self,
            (request, context),
            {},
            context_data=data,
            handle_result=partial(self.handle_result, response_stream),
        )

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
