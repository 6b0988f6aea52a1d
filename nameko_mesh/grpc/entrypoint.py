"""gRPC entrypoints on nameko-grpc, fit for strangers.

    grpc = Grpc.implementing(AccountServiceStub)

A service that has one answers `grpc.health.v1.Health` and server reflection too. It listens on
GRPC_BIND_HOST:GRPC_BIND_PORT (port 0: any; `Presence` registers the port). `nameko_mesh.grpc.errors` says
what becomes of an exception, `nameko_mesh.grpc.http2.limits` how much of what a client may have.
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
    def setup(self) -> None:
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
        """Where the service is served, whatever the settings say."""
        return self.listener.bound_port

    def start(self) -> None:
        self.listener.start()

    def leave(self) -> None:
        self.health.leave()
        self.listener.leave()

    def drain(self) -> None:
        """Wait for the calls in flight, but not for ever."""
        self.leave()  # Nameko's own container does not
        self.listener.drain()

    def stop(self) -> None:
        self.listener.stop()

    def _spawn(self, target: Any, args: tuple[Any, ...] = (), name: str | None = None) -> None:
        self.container.spawn_managed_thread(partial(target, *args), identifier=name)

    def _services(self) -> set[str]:
        return {path.split("/")[1] for path in self.entrypoints}

    def _missing(self) -> list[str]:
        asked = (getattr(extension, "missing", None) for extension in self.container.extensions)
        return [name for missing in asked if missing is not None for name in missing()]

    def handle_request(self, request_stream: Any, response_stream: Any) -> None:
        """Raises GrpcError for a call that can't begin."""
        headers = request_stream.headers
        entrypoint = self.entrypoints.get(headers.get(":path"))
        if entrypoint is None:
            raise GrpcError(StatusCode.UNIMPLEMENTED, "Method not found!")
        encoding = headers.get("grpc-encoding", "identity")
        if encoding not in SUPPORTED_ENCODINGS:
            raise GrpcError(StatusCode.UNIMPLEMENTED, f"Algorithm not supported: {encoding[:100]}")
        if (told := headers.get("grpc-timeout")) is not None:
            seconds = _seconds(told)
            response_stream.deadline = time.time() + seconds
            # A timer of the hub: unlike a green thread that waits, it can be cancelled without a switch.
            response_stream.timer = hubs.get_hub().schedule_call_global(
                seconds, _expire, request_stream, response_stream
            )
        handle = partial(entrypoint.handle_request, request_stream, response_stream)
        self.container.spawn_managed_thread(handle, identifier=f"grpc {entrypoint.method_name}")


def _seconds(told: str) -> float:
    if not _TIMEOUT.fullmatch(told):
        raise GrpcError(StatusCode.INVALID_ARGUMENT, "grpc-timeout: expected digits and a unit")
    return min(float(unbucket_timeout(told)), _MAX_TIMEOUT_SECONDS)


def _expire(request_stream: Any, response_stream: Any) -> None:
    request_stream.drop()
    response_stream.buffer.discard()
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
        self.grpc_server.drain()

    def handle_request(self, request_stream: Any, response_stream: Any) -> None:
        """Nothing that a client sends may raise in here: it would end the process."""
        seconds = None if self.cardinality in _STREAMS_IN else REQUEST_SECONDS
        requests = request_stream.consume(self.input_type, seconds)

        def end(_: Any = None) -> None:
            with suppress(ValueError):  # somebody else still reads: then it ends with the call
                requests.close()
            response_stream.done()

        try:
            worker = self._begin(requests, request_stream, response_stream)
        except Exception as error:
            response_stream.close(self._error(error))
            end()
        else:
            worker.link(end)

    def is_wanted(self, worker_ctx: Any) -> bool:
        """Not when its deadline passed, or its client left, while it waited for a worker."""
        _, context = worker_ctx.args
        return not context.response_stream.closed

    def _begin(self, requests: Any, request_stream: Any, response_stream: Any) -> Any:
        """The green thread of the worker."""
        metadata = request_stream.headers.for_application
        if any(not _is_sound(name, value) for name, value in metadata):
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
        return self.container._worker_threads[worker_ctx]

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
                response_stream.answer(result)
        except Exception as error:
            response_stream.close(self._error(error))
        return result, exc_info

    def _error(self, error: BaseException) -> GrpcError:
        return grpc_error(error, self.container.service_name)


def _is_sound(name: str, value: Any) -> bool:
    """Whether nameko-grpc can make context of a pair of metadata."""
    if not name.startswith(METADATA_PREFIX):
        return True
    key = name.removeprefix(METADATA_PREFIX)
    try:
        return key in validated_context({key: json.loads(value)})
    except (ValueError, TypeError, RecursionError):
        return False
