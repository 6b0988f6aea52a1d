"""grpc.health.v1: whether a gRPC server, and each service on it, can do its work.

All of them are as ready as the process: what its `Presence` says, if it has one, and no longer once it
leaves. See https://github.com/grpc/grpc/blob/master/doc/health-checking.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from threading import Event, Lock
from typing import Any

from grpc import StatusCode
from grpc_health.v1 import health_pb2 as pb
from nameko_grpc.errors import GrpcError

from mesh.errors import Overloaded

NAME = "grpc.health.v1.Health"
LOOK_SECONDS = 1.0
"""How old an answer may be, and how soon a watcher hears of a change."""
MOST_WATCHERS = 100

_SERVING = pb.HealthCheckResponse.SERVING
_NOT_SERVING = pb.HealthCheckResponse.NOT_SERVING
_UNKNOWN = pb.HealthCheckResponse.SERVICE_UNKNOWN


class Health:
    """Of `services` (full names). `missing` names what they can't work without and have not."""

    def __init__(self, services: Iterable[str], missing: Callable[[], list[str]]) -> None:
        self._names = frozenset(["", *services])
        self._missing = missing
        self._leaving = Event()
        self._looking = Lock()  # who comes while another looks gets what that one saw
        self._looked_at = 0.0
        self._is_ready = False
        self.watchers = 0
        self.methods = {
            f"/{NAME}/Check": self._check,
            f"/{NAME}/List": self._list,
            f"/{NAME}/Watch": self._watch,
        }

    def leave(self) -> None:
        """NOT_SERVING from now on. Watchers are told, and their streams end."""
        self._leaving.set()

    def _check(self, request_stream: Any, response_stream: Any) -> Iterator[pb.HealthCheckResponse]:
        status = self._status(request_stream.only(pb.HealthCheckRequest).service)
        if status == _UNKNOWN:
            raise GrpcError(StatusCode.NOT_FOUND, "there is no such service")
        yield pb.HealthCheckResponse(status=status)

    def _list(self, request_stream: Any, response_stream: Any) -> Iterator[pb.HealthListResponse]:
        request_stream.only(pb.HealthListRequest)
        status = pb.HealthCheckResponse(status=self._status(""))
        yield pb.HealthListResponse(statuses=dict.fromkeys(self._names, status))

    def _watch(self, request_stream: Any, response_stream: Any) -> Iterator[pb.HealthCheckResponse]:
        name = request_stream.only(pb.HealthCheckRequest).service
        if self.watchers >= MOST_WATCHERS:
            raise Overloaded(f"{MOST_WATCHERS} clients watch the health already")
        self.watchers += 1
        try:
            told = None
            while not response_stream.closed:
                is_last = self._leaving.is_set()
                if (status := self._status(name)) != told:
                    told = status
                    yield pb.HealthCheckResponse(status=status)
                if is_last:
                    return
                self._leaving.wait(LOOK_SECONDS)
        finally:
            self.watchers -= 1

    def _status(self, name: str) -> pb.HealthCheckResponse.ServingStatus:
        if name not in self._names:
            return _UNKNOWN
        return _SERVING if self._ready() and not self._leaving.is_set() else _NOT_SERVING

    def _ready(self) -> bool:
        with self._looking:
            if time.monotonic() - self._looked_at > LOOK_SECONDS / 2 and not self._leaving.is_set():
                self._is_ready = not self._missing()
                self._looked_at = time.monotonic()
            return self._is_ready
