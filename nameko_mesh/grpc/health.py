"""grpc.health.v1.Health: reports the status on request (Check), and each change of it (Watch).

The service's `Presence` decides when a service is ready. A service without `Presence` is ready until it
stops. The status concerns the whole process. It is reported under the empty name and under the name of each
gRPC service.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from threading import Event, Lock
from typing import Any

from grpc import StatusCode
from grpc_health.v1.health_pb2 import DESCRIPTOR, HealthCheckRequest, HealthCheckResponse
from nameko_grpc.errors import GrpcError

from nameko_mesh.grpc.builtin_methods import BuiltinMethod, only_request

SERVICE = DESCRIPTOR.services_by_name["Health"].full_name
HEALTH_POLL_SECONDS = 1.0
"""Shortest interval between two checks of the readiness, for all clients together."""

_SERVING = HealthCheckResponse.SERVING
_NOT_SERVING = HealthCheckResponse.NOT_SERVING
_UNKNOWN = HealthCheckResponse.SERVICE_UNKNOWN


class Health:
    """The health service of a server.

    `services` returns the names of the gRPC services, `missing` the names of unavailable dependencies.
    """

    def __init__(self, services: Callable[[], Iterable[str]], missing: Callable[[], Iterable[str]]) -> None:
        self._services = services
        self._missing = missing
        self._leaving = Event()
        self._lock = Lock()
        self._checked_at = float("-inf")
        self._is_ready = False

    def methods(self) -> list[BuiltinMethod]:
        return [
            BuiltinMethod(SERVICE, "Check", HealthCheckRequest, self._check),
            BuiltinMethod(SERVICE, "Watch", HealthCheckRequest, self._watch),
        ]

    def leave(self) -> None:
        """Report NOT_SERVING to all watching clients, and end their calls."""
        self._leaving.set()

    def _check(self, requests: Iterator[HealthCheckRequest], stream: Any) -> Iterator[HealthCheckResponse]:
        status = self._status(only_request(requests).service)
        if status == _UNKNOWN:
            raise GrpcError(StatusCode.NOT_FOUND, "unknown service")
        yield HealthCheckResponse(status=status)

    def _watch(self, requests: Iterator[HealthCheckRequest], stream: Any) -> Iterator[HealthCheckResponse]:
        service = only_request(requests).service
        reported = None
        while not stream.closed:
            is_leaving = self._leaving.is_set()
            if (status := self._status(service)) != reported:
                reported = status
                yield HealthCheckResponse(status=status)
            if is_leaving:
                return
            self._leaving.wait(HEALTH_POLL_SECONDS)

    def _status(self, service: str) -> HealthCheckResponse.ServingStatus:
        if service and service not in self._services():
            return _UNKNOWN
        return _SERVING if not self._leaving.is_set() and self._check_readiness() else _NOT_SERVING

    def _check_readiness(self) -> bool:
        with self._lock:
            if time.monotonic() - self._checked_at > HEALTH_POLL_SECONDS:
                self._is_ready = not list(self._missing())
                self._checked_at = time.monotonic()
            return self._is_ready
