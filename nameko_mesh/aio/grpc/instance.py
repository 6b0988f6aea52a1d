"""Calls an instance of a gRPC service over its own channel, which reconnects by itself."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import grpc
import grpc.aio

from nameko_mesh.aio.breaker import Breaker
from nameko_mesh.discovery.consul_watch import Endpoint
from nameko_mesh.errors import DeadlineExceeded, MeshError, Overloaded, Refused, RemoteFault, Unavailable

log = logging.getLogger(__name__)

Request = TypeVar("Request")
Response = TypeVar("Response")

MIN_COUNTED_TIMEOUT_SECONDS = 0.1
"""A call with less time than this does not count as a failure when it times out."""
CLOSE_TIMEOUT_SECONDS = 10.0
"""For the calls in flight to an instance that is removed."""
OPTIONS = (
    # The connection to a frozen process or a lost machine stays open. A ping detects that.
    ("grpc.keepalive_time_ms", 1000),
    ("grpc.keepalive_timeout_ms", 1000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # The timeout of connecting, and the delays between attempts.
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    # A new instance at the same address must not inherit the state of the old connection.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)
_SLUGS = {
    grpc.StatusCode.INVALID_ARGUMENT: "validation-failed",
    grpc.StatusCode.NOT_FOUND: "not-found",
    grpc.StatusCode.ALREADY_EXISTS: "already-exists",
    grpc.StatusCode.FAILED_PRECONDITION: "conflict",
    grpc.StatusCode.UNAUTHENTICATED: "unauthenticated",
    grpc.StatusCode.PERMISSION_DENIED: "forbidden",
}


@dataclass(frozen=True, slots=True)
class Method(Generic[Request, Response]):
    """A unary method: its path `/package.Service/Method`, and the codecs of its messages."""

    path: str
    write: Callable[[Request], bytes]
    read: Callable[[bytes], Response]


_SERVER_GONE = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED})
"""A stopping server cancels its calls. A call that is cancelled on this side yields no status."""


class Instance:
    """A channel with a breaker.

    `is_ready` follows the connection, so it is False at once when the process dies, before Consul notices.
    """

    def __init__(self, endpoint: Endpoint, breaker: Breaker) -> None:
        self.endpoint = endpoint
        self.breaker = breaker
        self.is_ready = False
        self._channel = grpc.aio.insecure_channel(str(endpoint), options=OPTIONS)
        self._methods: dict[str, Any] = {}
        self._following = asyncio.create_task(self._follow(), name=f"connection to {endpoint}")

    async def call(
        self,
        method: Method[Request, Response],
        request: Request,
        *,
        seconds: float,
        metadata: Sequence[tuple[str, str]],
    ) -> Response:
        """Call a method with a timeout of `seconds`. Raises MeshError, and nothing else."""
        is_trial = self.breaker.begin()
        began = time.monotonic()
        succeeded = None
        try:
            response: Response = await self._method(method)(request, timeout=seconds, metadata=metadata)
            succeeded = True
            return response
        except grpc.aio.AioRpcError as error:
            code = error.code()
            if code in _SERVER_GONE:
                succeeded = False
            elif code is grpc.StatusCode.DEADLINE_EXCEEDED:
                succeeded = False if seconds >= MIN_COUNTED_TIMEOUT_SECONDS else None
            else:
                succeeded = True  # the instance responds
            raise _as_mesh_error(code, f"{self.endpoint}: {error.details()}") from None
        finally:
            self.breaker.end(is_trial, succeeded, time.monotonic() - began)

    async def close(self) -> None:
        """Accept no more calls, and wait for the calls in flight."""
        self.is_ready = False
        self._following.cancel()
        with suppress(asyncio.CancelledError):
            await self._following
        await self._channel.close(CLOSE_TIMEOUT_SECONDS)

    def _method(self, method: Method[Request, Response]) -> Any:
        call = self._methods.get(method.path)
        if call is None:
            call = self._channel.unary_unary(
                method.path, request_serializer=method.write, response_deserializer=method.read
            )
            self._methods[method.path] = call
        return call

    async def _follow(self) -> None:
        while True:
            state = self._channel.get_state(try_to_connect=True)
            if self.is_ready != (state is grpc.ChannelConnectivity.READY):
                self.is_ready = not self.is_ready
                log.info("%s is %s", self.breaker.name, "connected" if self.is_ready else "not connected")
            await self._channel.wait_for_state_change(state)


def _as_mesh_error(code: grpc.StatusCode, message: str) -> MeshError:
    if code in _SERVER_GONE:
        return Unavailable(message)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineExceeded(message)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return Overloaded(message)
    if slug := _SLUGS.get(code):
        return Refused(slug, message)
    return RemoteFault(code.name, message)
