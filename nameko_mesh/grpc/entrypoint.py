"""gRPC entrypoints on nameko-grpc, with limits that protect the service from any client.

    grpc = Grpc.implementing(AccountServiceStub)

A service with such entrypoints also serves `grpc.health.v1.Health` and server reflection. It listens on
GRPC_BIND_HOST:GRPC_BIND_PORT. With port 0 the system chooses the port, and `Presence` registers it.
`nameko_mesh.grpc.errors` maps exceptions to status codes. `nameko_mesh.grpc.http2.limits` holds the limits.
"""

from __future__ import annotations

import json
import re
import time
from contextlib import suppress
from functools import partial
from typing import Any

from eventlet import hubs
from grpc import StatusCode
from nameko_grpc import entrypoint as stock
from nameko_grpc.compression import SUPPORTED_ENCODINGS
from nameko_grpc.constants import Cardinality
from nameko_grpc.context import METADATA_PREFIX, GrpcContext, context_data_from_metadata
from nameko_grpc.errors import GrpcError
from nameko_grpc.inspection import Inspector
from nameko_grpc.ssl import SslConfig
from nameko_grpc.timeout import unbucket_timeout

from nameko_mesh import settings
from nameko_mesh.context import validated_context
from nameko_mesh.grpc import reflection
from nameko_mesh.grpc.builtin_methods import only_request
from nameko_mesh.grpc.errors import grpc_error
from nameko_mesh.grpc.health import Health
from nameko_mesh.grpc.http2.limits import REQUEST_SECONDS
from nameko_mesh.grpc.http2.listener import Listener

_MAX_TIMEOUT_SECONDS = 86400.0
_TIMEOUT = re.compile(r"[0-9]{1,8}[HMSmun]")
_STREAMS_IN = (Cardinality.STREAM_UNARY, Cardinality.STREAM_STREAM)
_STREAMS_OUT = (Cardinality.UNARY_STREAM, Cardinality.STREAM_STREAM)


class GrpcServer(stock.GrpcServer):
    """The server of a service, shared by all its gRPC entrypoints."""

    def setup(self) -> None:
        reflection.describe_v1()
        self.listener = Listener(
            str(settings.optional("GRPC_BIND_HOST", "127.0.0.1")),
            int(settings.optional("GRPC_BIND_PORT", 50051)),
            SslConfig(settings.optional("GRPC_SSL")),
            self._spawn,
            self.handle_request,
        )
        self.listener.listen()
        self.health = Health(self._services, self._missing)
        for method in (*self.health.methods(), *reflection.methods(self._services)):
            self.register(method)

    @property
    def bound_port(self) -> int:
        """The port that the server listens on, even if the setting is 0."""
        return self.listener.bound_port

    def start(self) -> None:
        self.listener.start()

    def leave(self) -> None:
        """Report NOT_SERVING, and accept no more connections and calls."""
        self.health.leave()
        self.listener.leave()

    def drain(self) -> None:
        """Wait for the calls in flight, for at most DRAIN_SECONDS."""
        self.leave()  # Nameko's own container does not call `leave`
        self.listener.drain()

    def stop(self) -> None:
        self.listener.stop()

    def _spawn(self, target: Any, args: tuple[Any, ...] = (), name: str | None = None) -> None:
        self.container.spawn_managed_thread(partial(target, *args), identifier=name)

    def _services(self) -> set[str]:
        return {path.split("/")[1] for path in self.entrypoints}

    def _missing(self) -> list[str]:
        checks = (getattr(extension, "missing", None) for extension in self.container.extensions)
        return [name for missing in checks if missing is not None for name in missing()]

    def handle_request(self, request_stream: Any, response_stream: Any) -> None:
        """Start the call. Raises GrpcError if the call is invalid."""
        headers = request_stream.headers
        entrypoint = self.entrypoints.get(headers.get(":path"))
        if entrypoint is None:
            raise GrpcError(StatusCode.UNIMPLEMENTED, "Method not found!")
        encoding = headers.get("grpc-encoding", "identity")
        if encoding not in SUPPORTED_ENCODINGS:
            raise GrpcError(StatusCode.UNIMPLEMENTED, f"Algorithm not supported: {encoding[:100]}")
        if (timeout := headers.get("grpc-timeout")) is not None:
            seconds = _seconds(timeout)
            response_stream.deadline = time.time() + seconds
            # Cancelling a timer of the hub needs no switch, unlike killing a green thread that sleeps.
            response_stream.timer = hubs.get_hub().schedule_call_global(
                seconds, _expire, request_stream, response_stream
            )
        handle = partial(entrypoint.handle_request, request_stream, response_stream)
        self.container.spawn_managed_thread(handle, identifier=f"grpc {entrypoint.method_name}")


def _seconds(timeout: str) -> float:
    if not _TIMEOUT.fullmatch(timeout):
        raise GrpcError(StatusCode.INVALID_ARGUMENT, "grpc-timeout: expected digits and a unit")
    return min(float(unbucket_timeout(timeout)), _MAX_TIMEOUT_SECONDS)


def _expire(request_stream: Any, response_stream: Any) -> None:
    request_stream.discard()
    response_stream.buffer.discard()
    response_stream.close(GrpcError(StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded"))


class Grpc(stock.Grpc):
    """An entrypoint for a method of a gRPC service. Each call runs in a worker."""

    grpc_server = GrpcServer()

    input_type: Any = None
    cardinality: Any = None

    def setup(self) -> None:
        inspector = Inspector(self.stub)
        self.input_type = inspector.input_type_for_method(self.method_name)
        self.cardinality = inspector.cardinality_for_method(self.method_name)
        super().setup()

    def stop(self) -> None:
        """Drain, but stay registered: calls that were sent before the GOAWAY must find the method."""
        self.grpc_server.drain()

    def handle_request(self, request_stream: Any, response_stream: Any) -> None:
        """Run the call in a worker. Never raises, because an error here would end the process."""
        seconds = None if self.cardinality in _STREAMS_IN else REQUEST_SECONDS
        requests = request_stream.consume(self.input_type, seconds)

        def end(_: Any = None) -> None:
            with suppress(ValueError):  # another green thread still reads, and ends with the call
                requests.close()
            response_stream.work_ended()

        try:
            worker = self._begin(requests, request_stream, response_stream)
        except Exception as error:
            response_stream.close(self._error(error))
            end()
        else:
            worker.link(end)

    def is_wanted(self, worker_ctx: Any) -> bool:
        """Return False if the deadline passed, or the client left, while the call waited for a worker."""
        _, context = worker_ctx.args
        return not context.response_stream.closed

    def _begin(self, requests: Any, request_stream: Any, response_stream: Any) -> Any:
        """Start a worker and return its green thread. Raises GrpcError for invalid metadata."""
        metadata = request_stream.headers.for_application
        if any(not _is_valid(name, value) for name, value in metadata):
            message = f"metadata {METADATA_PREFIX}*: expected JSON of the right type"
            raise GrpcError(StatusCode.INVALID_ARGUMENT, message)
        data = validated_context(context_data_from_metadata(metadata))
        if response_stream.deadline is not None:
            data["deadline"] = min(response_stream.deadline, data.get("deadline", response_stream.deadline))
        request = requests if self.cardinality in _STREAMS_IN else only_request(requests)
        worker_ctx = self.container.spawn_worker(
            self,
            (request, GrpcContext(request_stream, response_stream)),
            {},
            context_data=data,
            handle_result=partial(self.handle_result, response_stream),
        )
        return _worker_thread(self.container, worker_ctx)

    def handle_result(
        self, response_stream: Any, worker_ctx: Any, result: Any, exc_info: Any
    ) -> tuple[Any, Any]:
        if exc_info is not None:
            response_stream.close(self._error(exc_info[1]))
            return result, exc_info
        try:
            if self.cardinality in _STREAMS_OUT:
                response_stream.populate(result)
            else:
                response_stream.send_only(result)
        except Exception as error:
            response_stream.close(self._error(error))
        return result, exc_info

    def _error(self, error: BaseException) -> GrpcError:
        return grpc_error(error, self.container.service_name)


def _worker_thread(container: Any, worker_ctx: Any) -> Any:
    """Return the green thread of a worker. A killed worker gives no other sign than the end of its thread.

    The name is private in Nameko, so pyproject.toml pins Nameko to one version. Delete this function as soon
    as `spawn_worker` returns the thread. tests/integration/mesh/over_grpc fails if the name changes.
    """
    return container._worker_threads[worker_ctx]


def _is_valid(name: str, value: Any) -> bool:
    """Return True if nameko-grpc can turn a pair of metadata into context data."""
    if not name.startswith(METADATA_PREFIX):
        return True
    key = name.removeprefix(METADATA_PREFIX)
    try:
        return key in validated_context({key: json.loads(value)})
    except (ValueError, TypeError, RecursionError):
        return False
