"""Methods that a gRPC server answers without a worker of its service, even when all workers are busy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from grpc import StatusCode
from nameko_grpc.errors import GrpcError

from nameko_mesh.grpc.errors import grpc_error

Handler = Callable[[Iterator[Any], Any], Iterable[Any]]
"""Takes the requests as they arrive, and the response stream, which is `closed` when the client has gone."""


class BuiltinMethod:
    """Registered with a GrpcServer like an entrypoint. `handler` may raise the errors of any gRPC method."""

    def __init__(
        self, service: str, method_name: str, input_type: Callable[[], Any], handler: Handler
    ) -> None:
        self.method_name = method_name
        self.method_path = f"/{service}/{method_name}"
        self._input_type = input_type
        self._handler = handler

    def handle_request(self, request_stream: Any, response_stream: Any) -> None:
        requests = request_stream.consume(self._input_type)
        try:
            response_stream.populate(self._handler(requests, response_stream))
        except Exception as error:
            response_stream.close(grpc_error(error))
        finally:
            requests.close()
            response_stream.work_ended()


def only_request(requests: Iterator[Any]) -> Any:
    """Return the request of a call that has exactly one. Raises GrpcError if there is none."""
    request = next(requests, None)
    if request is None:
        raise GrpcError(StatusCode.INVALID_ARGUMENT, "the request is missing")
    return request
