"""grpc.health.v1.Health: whether a service can do its work, told when asked, and whenever it changes.

What ready means is for the service's `Presence` to say; one without it is ready until it leaves. The status
is that of the whole process, under "" and under the name of each gRPC service that it has.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from threading import Event, Lock
from typing import Any

from grpc import StatusCode
from grpc_health.v1.health_pb2 import DESCRIPTOR, HealthCheckRequest, HealthCheckResponse
from nameko_grpc.errors import GrpcError

from nameko_mesh.grpc.builtin_methods import BuiltIn, only_request

SERVICE = DESCRIPTOR.services_by_name["Health"].full_name
HEALTH_POLL_SECONDS = 1.0
"""How old an answer may be: a service is asked once for all who want to know."""

_SERVING = HealthCheckResponse.SERVING
_NOT_SERVING = HealthCheckResponse.NOT_SERVING
_UNKNOWN = HealthCheckResponse.SERVICE_UNKNOWN


class Health:
    """`missing` names what the service can't do without and has not; `services` its gRPC services."""

    def __init__(self, services: Callable[[], Iterable[str]], missing: Callable[[], Iterable[str]]) -> None:
        self._services = services
        self._missing = missing
        self._leaving = Event()
        self._asking = Lock()
        self._asked_at = float("-inf")
        self._is_ready = False

    def methods(self) -> list[BuiltIn]:
        return [
            BuiltIn(SERVICE, "Check", HealthCheckRequest, self._check),
            BuiltIn(SERVICE, "Watch", HealthCheckRequest, self._watch),
        ]

    def leave(self) -> None:
        """All who watch are told, and let go."""
        self._leaving.set()

    def _check(self, requests: Iterator[HealthCheckRequest], stream: Any) -> Iterator[HealthCheckResponse]:
        status = self._status(only_request(requests).service)
        if status == _UNKNOWN:
            raise GrpcError(StatusCode.NOT_FOUND, "there is no such service here")
        yield HealthCheckResponse(status=status)

    def _watch(self, requests: Iterator[HealthCheckRequest], stream: Any) -> Iterator[HealthCheckResponse]:
        service = only_request(requests).service
        told = None
        while not stream.closed:
            left = self._leaving.is_set()
            if (status := self._status(service)) != told:
                told = status
                yield HealthCheckResponse(status=status)
            if left:
                return
            self._leaving.wait(HEALTH_POLL_SECONDS)

    def _status(self, service: str) -> HealthCheckResponse.ServingStatus:
        if service and service not in self._services():
            return _UNKNOWN
        return _SERVING if not self._leaving.is_set() and self._ready() else _NOT_SERVING

    def _ready(self) -> bool:
        with self._asking:
            if time.monotonic() - self._asked_at > HEALTH_POLL_SECONDS:
                self._is_ready = not list(self._missing())
                self._asked_at = time.monotonic()
            return self._is_ready
