"""Liveness and readiness of a service over HTTP, and its registration with Consul.

    presence = Presence()

GET /health answers 200 unless a restart would repair the service. GET /ready answers 200 while the service
can work. Otherwise they answer 503 with the missing parts:

    missing part                /health    /ready
    a consumer is lost          503        503
    the broker is down          200        503
    the database is down        200        503
    the service is leaving      200        503

Consul checks /ready, and a supervisor checks /health. The registered port is the `bound_port` of an
extension, such as a gRPC server. Without such an extension it is the port of /health.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from threading import Event
from typing import Any

import eventlet
from eventlet import wsgi
from nameko.extensions import DependencyProvider

from nameko_mesh import settings
from nameko_mesh.discovery.consul_registration import Instance, Registrar, reachable_address
from nameko_mesh.runtime.probes import Probes

log = logging.getLogger(__name__)


class Presence(DependencyProvider):
    """Serves health on HEALTH_HOST:HEALTH_PORT (port 0: any) and registers with CONSUL_HTTP_ADDR."""

    def __init__(self) -> None:
        self._leaving = Event()

    def setup(self) -> None:
        settings.required("AMQP_URI")  # fail before the socket is opened
        self.host = str(settings.optional("HEALTH_HOST", "127.0.0.1"))
        address = (self.host, int(settings.optional("HEALTH_PORT", 0)))
        self._socket = eventlet.listen(address, reuse_port=False)
        self.port = self._socket.getsockname()[1]
        self._probes = Probes(self.container)
        self._registrar: Registrar | None = None

    def start(self) -> None:
        self._server = self.container.spawn_managed_thread(self._serve, identifier="health server")
        self._registrar = self._make_registrar()
        if self._registrar:
            self._keeper = self.container.spawn_managed_thread(self._keep_registered, identifier="consul")

    def leave(self) -> None:
        """Deregister before anything stops, because callers must not find a draining instance."""
        if self._registrar and not self._leaving.is_set():
            self._leaving.set()
            self._keeper.wait()
            self._registrar.deregister()

    def stop(self) -> None:
        self.leave()
        self._server.kill()
        self._socket.close()
        self._probes.close()

    def get_dependency(self, worker_ctx: Any) -> None:
        return None

    def missing(self) -> list[str]:
        """Return the missing parts. The list is empty when the service is ready."""
        return ["leaving"] if self._leaving.is_set() else self._probes.missing()

    def _lost_consumers(self) -> list[str]:
        return [] if self._leaving.is_set() else self._probes.lost_consumers()

    def _make_registrar(self) -> Registrar | None:
        http_addr = str(settings.optional("CONSUL_HTTP_ADDR", ""))
        if not http_addr:
            log.info("CONSUL_HTTP_ADDR is not set: %s is not registered", self.container.service_name)
            return None
        ports = [extension.bound_port for extension in self.container.extensions if _is_server(extension)]
        version = str(settings.optional("SERVICE_VERSION", ""))
        instance = Instance.at(
            str(settings.optional("ADVERTISE_ADDRESS") or reachable_address(self.host, http_addr)),
            self.container.service_name,
            health_port=self.port,
            port=ports[0] if ports else None,
            meta={"health_port": str(self.port), "version": version},
        )
        return Registrar(instance, http_addr, settings.optional("CONSUL_HTTP_TOKEN"))

    def _keep_registered(self) -> None:
        assert self._registrar is not None
        self._registrar.keep(self._leaving.wait, is_ready=lambda: not self.missing())

    def _serve(self) -> None:
        wsgi.server(
            self._socket, self._answer, log_output=False, keepalive=False, socket_timeout=5, max_size=32
        )

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        match environ["PATH_INFO"]:
            case "/health":
                missing: list[str] | None = self._lost_consumers()
            case "/ready":
                missing = self.missing()
            case _:
                missing = None
        status = "404 Not Found" if missing is None else "503 Service Unavailable" if missing else "200 OK"
        body = {"service": self.container.service_name, "missing": missing}
        start_response(status, [("Content-Type", "application/json")])
        return [json.dumps(body).encode()]


def _is_server(extension: Any) -> bool:
    return hasattr(extension, "bound_port")
