"""One instance of a gRPC service, over a channel of its own that mends itself."""

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
"""Who was given less time than this and did not answer has not failed."""
CLOSE_TIMEOUT_SECONDS = 10.0
"""For the calls that are in flight to an instance when it leaves."""
OPTIONS = (
    # One that is frozen, or whose machine is gone, keeps its connection: a ping finds out.
    ("grpc.keepalive_time_ms", 1000),
    ("grpc.keepalive_timeout_ms", 1000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # How long a connection may take, handshake included, and how soon it is tried again.
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    # An instance that comes back at the same address begins anew.
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
    """A unary method: `/package.Service/Method`, and how its messages are written and read."""

    path: str
    write: Callable[[Request], bytes]
    read: Callable[[bytes], Response]


_GONE = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED})
"""A server that ends gives up the calls that it has in hand. Who gives up a call here sees no status."""


class Instance:
    """`is_ready` follows the connection: a process that dies takes it along at once, whatever the
    catalogue still says of it.
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
        """Raises MeshError, and nothing else."""
        is_trial = self.breaker.begin()
        began = time.monotonic()
        succeeded = None
        try:
            answer: Response = await self._method(method)(request, timeout=seconds, metadata=metadata)
            succeeded = True
            return answer
        except grpc.aio.AioRpcError as error:
            code = error.code()
            if code in _GONE:
                succeeded = False
            elif code is grpc.StatusCode.DEADLINE_EXCEEDED:
                succeeded = False if seconds >= MIN_COUNTED_TIMEOUT_SECONDS else None
            else:
                succeeded = True  # it answers
            raise _as_mesh_error(code, f"{self.endpoint}: {error.details()}") from None
        finally:
            self.breaker.end(is_trial, succeeded, time.monotonic() - began)

    async def close(self) -> None:
        """No more calls; those in flight may end."""
        self.is_ready = False
        self._following.cancel()
        with suppress(asyncio.CancelledError):
            await self._following
        await self._channel.close(CLOSE_TIMEOUT_SECONDS)

    def _method(self, method: Method[Request, Response]) -> Any:
        known = self._methods.get(method.path)
        if known is None:
            known = self._channel.unary_unary(
                method.path, request_serializer=method.write, response_deserializer=method.read
            )
            self._methods[method.path] = known
        return known

    async def _follow(self) -> None:
        while True:
            state = self._channel.get_state(try_to_connect=True)
            if self.is_ready != (state is grpc.ChannelConnectivity.READY):
                self.is_ready = not self.is_ready
                log.info("%s is %s", self.breaker.name, "connected" if self.is_ready else "not connected")
            await self._channel.wait_for_state_change(state)


def _as_mesh_error(code: grpc.StatusCode, message: str) -> MeshError:
    if code in _GONE:
        return Unavailable(message)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineExceeded(message)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return Overloaded(message)
    if slug := _SLUGS.get(code):
        return Refused(slug, message)
    return RemoteFault(code.name, message)
