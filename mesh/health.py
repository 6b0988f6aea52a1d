"""What a Nameko service shows of itself: liveness and readiness over HTTP, and its place in Consul.

    presence = Presence()                  # or Presence(port_setting="GRPC_BIND_PORT")

GET /health answers 200 while the process can answer at all. GET /ready answers 200 while it can
do its work (broker and database answer), else 503 with what is missing. Consul checks /ready.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from threading import Event
from typing import Any

import eventlet
import sqlalchemy as sa
from eventlet import wsgi
from nameko.extensions import DependencyProvider

from mesh import settings
from mesh.consul import Instance, Registrar, reachable_address
from mesh.database import Engine

log = logging.getLogger(__name__)

PROBE_SECONDS = 0.8
"""Shorter than Consul's own patience with a check."""


class Presence(DependencyProvider):
    """Serves health on HEALTH_HOST:HEALTH_PORT (port 0: any) and registers with CONSUL_HTTP_ADDR."""

    database = Engine()

    def __init__(self, port_setting: str | None = None) -> None:
        self.port_setting = port_setting
        self._leaving = Event()

    def setup(self) -> None:
        settings.required("AMQP_URI")  # what is missing is said before anything is opened
        self.host = str(settings.optional("HEALTH_HOST", "127.0.0.1"))
        address = (self.host, int(settings.optional("HEALTH_PORT", 0)))
        self._socket = eventlet.listen(address, reuse_port=False)
        self.port = self._socket.getsockname()[1]
        self._registrar = self._make_registrar()

    def _make_registrar(self) -> Registrar | None:
        http_addr = str(settings.optional("CONSUL_HTTP_ADDR", ""))
        if not http_addr:
            log.info("CONSUL_HTTP_ADDR is not set: not registering")
            return None
        address = str(settings.optional("ADVERTISE_ADDRESS") or reachable_address(self.host, http_addr))
        served_on = settings.optional(self.port_setting) if self.port_setting else None
        instance = Instance(
            service=self.container.service_name,
            address=address,
            port=int(served_on or self.port),
            health_url=f"http://{address}:{self.port}/ready",
            meta={"health_port": str(self.port)},
        )
        return Registrar(instance, http_addr, settings.optional("CONSUL_HTTP_TOKEN"))

    def start(self) -> None:
        self._server = self.container.spawn_managed_thread(self._serve, identifier="health server")
        if self._registrar:
            self._keeper = self.container.spawn_managed_thread(self._keep_registered, identifier="consul")

    def leave(self) -> None:
        """Out of discovery, before anything stops: nobody is sent to an instance that drains."""
        if self._registrar and not self._leaving.is_set():
            self._leaving.set()
            self._keeper.wait()
            self._registrar.deregister()

    def stop(self) -> None:
        self.leave()
        self._server.kill()
        self._socket.close()

    def get_dependency(self, worker_ctx: Any) -> None:
        return None

    def _keep_registered(self) -> None:
        assert self._registrar is not None
        while self._missing():  # nobody should find an instance that can't work yet
            if self._leaving.wait(0.1):
                return
        self._registrar.keep(self._leaving.wait)

    def _serve(self) -> None:
        wsgi.server(
            self._socket, self._answer, log_output=False, keepalive=False, socket_timeout=5, max_size=32
        )

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        match environ["PATH_INFO"]:
            case "/health":
                missing: list[str] | None = []
            case "/ready":
                missing = self._missing()
            case _:
                missing = None
        status = "404 Not Found" if missing is None else "503 Service Unavailable" if missing else "200 OK"
        body = {"service": self.container.service_name, "missing": missing}
        start_response(status, [("Content-Type", "application/json")])
        return [json.dumps(body).encode()]

    def _missing(self) -> list[str]:
        """The names of the dependencies that do not answer now."""
        missing = []
        if self._leaving.is_set():
            missing.append("leaving")
        if not all(consumer.is_consuming for consumer in self._consumers()):
            missing.append("broker")
        if not self._database_answers():
            missing.append("database")
        return missing

    def _consumers(self) -> list[Any]:
        return [
            extension.consumer
            for extension in self.container.extensions
            if hasattr(getattr(extension, "consumer", None), "is_consuming")
        ]

    def _database_answers(self) -> bool:
        try:
            with (
                eventlet.Timeout(PROBE_SECONDS, TimeoutError()),
                self.database.engine.connect() as connection,
            ):
                connection.execution_options(read_only=True).execute(sa.text("SELECT 1"))
        except Exception:
            return False
        return True
