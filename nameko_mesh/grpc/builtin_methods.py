"""Methods that a gRPC server answers itself: without a worker of its service, and when all are busy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from grpc import StatusCode
from nameko_grpc.errors import GrpcError

from nameko_mesh.grpc.errors import grpc_error

Answer = Callable[[Iterator[Any], Any], Iterable[Any]]
"""From the requests, as they come, and the response stream, which says whether anybody still listens."""


class BuiltIn:
    """Stands among the entrypoints of a GrpcServer. `answer` may raise what any gRPC method may."""

    def __init__(self, service: str, method_name: str, input_type: Callable[[], Any], answer: Answer) -> None:
        self.method_name = method_name
        self.method_path = f"/{service}/{method_name}"
        self._input_type = input_type
        self._answer = answer

    def handle_request(self, request_stream: Any, response_stream: Any) -> None:
        requests = request_stream.consume(self._input_type)
        try:
            response_stream.populate(self._answer(requests, response_stream))
        except Exception as error:
            response_stream.close(grpc_error(error))
        finally:
            requests.close()
            response_stream.done()


def only_request(requests: Iterator[Any]) -> Any:
    """Of a call that has one. Raises GrpcError when there is none."""
    request = next(requests, None)
    if request is None:
        raise GrpcError(StatusCode.INVALID_ARGUMENT, "there is no request")
    return request
