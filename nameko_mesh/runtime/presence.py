"""What a Nameko service shows of itself: liveness and readiness over HTTP, and its place in Consul.

    presence = Presence()

GET /health answers 200 while nothing is the matter that a restart would mend, GET /ready while the
service can do its work; else 503 with what is missing. A consumer that does not hear its self-call
is missing to both; a broker or a database that is away is no reason for a restart. Consul checks
/ready, whoever restarts processes /health. It is told the port of the gRPC server, if there is one: of any
extension that has a `bound_port`.
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
from nameko_mesh.amqp.consumer_probe import ConsumerProbe, ProbedConsumer
from nameko_mesh.discovery.consul_registration import Instance, Registrar, reachable_address
from nameko_mesh.errors import Unavailable
from nameko_mesh.sql.provider import Engine

log = logging.getLogger(__name__)

READY_SECONDS = 0.8
"""For all probes together, shorter than Consul's own patience with a check."""
HEALTH_SECONDS = 1.5


class Presence(DependencyProvider):
    """Serves health on HEALTH_HOST:HEALTH_PORT (port 0: any) and registers with CONSUL_HTTP_ADDR."""

    database = Engine()

    def __init__(self) -> None:
        self._leaving = Event()
        self._probe = ConsumerProbe()

    def setup(self) -> None:
        settings.required("AMQP_URI")  # what is missing is said before anything is opened
        self.host = str(settings.optional("HEALTH_HOST", "127.0.0.1"))
        address = (self.host, int(settings.optional("HEALTH_PORT", 0)))
        self._socket = eventlet.listen(address, reuse_port=False)
        self.port = self._socket.getsockname()[1]
        self._registrar: Registrar | None = None

    def _make_registrar(self) -> Registrar | None:
        http_addr = str(settings.optional("CONSUL_HTTP_ADDR", ""))
        if not http_addr:
            log.info("CONSUL_HTTP_ADDR is not set: not registering")
            return None
        address = str(settings.optional("ADVERTISE_ADDRESS") or reachable_address(self.host, http_addr))
        served_on = [one.bound_port for one in self.container.extensions if hasattr(one, "bound_port")]
        host = f"[{address}]" if ":" in address else address
        instance = Instance(
            service=self.container.service_name,
            address=address,
            port=served_on[0] if served_on else self.port,
            health_url=f"http://{host}:{self.port}/ready",
            meta={"health_port": str(self.port), "version": str(settings.optional("SERVICE_VERSION", ""))},
        )
        return Registrar(instance, http_addr, settings.optional("CONSUL_HTTP_TOKEN"))

    def start(self) -> None:
        self._server = self.container.spawn_managed_thread(self._serve, identifier="health server")
        self._registrar = self._make_registrar()  # every extension has its port by now
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
        self._probe.close()

    def get_dependency(self, worker_ctx: Any) -> None:
        return None

    def _keep_registered(self) -> None:
        assert self._registrar is not None
        while self.missing():  # nobody should find an instance that can't work yet
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
                missing: list[str] | None = self._gone(HEALTH_SECONDS)
            case "/ready":
                missing = self.missing()
            case _:
                missing = None
        status = "404 Not Found" if missing is None else "503 Service Unavailable" if missing else "200 OK"
        body = {"service": self.container.service_name, "missing": missing}
        start_response(status, [("Content-Type", "application/json")])
        return [json.dumps(body).encode()]

    def missing(self) -> list[str]:
        """The names of what the service can't do its work without, and has not."""
        database = eventlet.spawn(self._database_answers)
        missing = ["leaving"] if self._leaving.is_set() else self._not_heard()
        return missing if database.wait() else [*missing, "database"]

    def _not_heard(self) -> list[str]:
        if not all(consumer.probe_queue for consumer in self._consumers()):
            return ["broker"]  # it has not been there yet
        try:
            return ["consumer"] if self._probe.gone(self._consumers(), READY_SECONDS) else []
        except Unavailable:
            return ["broker"]

    def _gone(self, seconds: float) -> list[str]:
        """The queues whose consumer is gone although the broker is there: a restart brings it back."""
        if self._leaving.is_set():
            return []
        try:
            gone = self._probe.gone(self._consumers(), seconds)
        except Unavailable:
            return []
        return [queue.name for consumer in gone for queue in consumer.queues]

    def _consumers(self) -> list[ProbedConsumer]:
        consumers = (getattr(extension, "consumer", None) for extension in self.container.extensions)
        return [consumer for consumer in consumers if isinstance(consumer, ProbedConsumer)]

    def _database_answers(self) -> bool:
        try:
            with eventlet.Timeout(READY_SECONDS, TimeoutError()):
                self.database.probe()
        except Exception:
            return False
        return True
