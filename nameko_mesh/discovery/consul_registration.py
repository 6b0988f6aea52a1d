"""Registers an instance of a service with Consul, and keeps it registered while the process lives.

The calls block, each with a timeout. Run `Registrar.keep` in a green thread of a Nameko service, or in a
real thread of an asyncio program.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

import consul
import requests

from nameko_mesh.discovery.address import join_host_port, split_consul_url

log = logging.getLogger(__name__)

REQUEST_TIMEOUT_SECONDS = 2.0
CHECK_INTERVAL = "2s"
CHECK_TIMEOUT = "1s"
DEREGISTER_AFTER = "1m"
"""Consul drops an instance that has been critical for this long. A minute is Consul's minimum."""
VERIFY_SECONDS = 5.0
"""Interval between checks that the agent still knows the instance, because a restarted agent forgets it."""
READY_POLL_SECONDS = 0.1

_WILDCARDS = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - recognised, not bound to
_FAILURES = (consul.ConsulException, requests.RequestException, OSError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """The registration of one process. `port` serves the service, `health_url` its health check."""

    service: str
    address: str
    port: int
    health_url: str
    meta: dict[str, str] = field(default_factory=dict)

    @property
    def instance_id(self) -> str:
        return f"{self.service}-{self.address.replace('.', '-')}-{self.port}-{os.getpid()}"

    @classmethod
    def at(
        cls, address: str, service: str, *, health_port: int, port: int | None = None, meta: dict[str, str]
    ) -> Instance:
        """Return the instance of a process with `/ready` on `health_port`, which is also the default port."""
        health_url = f"http://{join_host_port(address, health_port)}/ready"
        return cls(
            service=service, address=address, port=port or health_port, health_url=health_url, meta=meta
        )


def reachable_address(host: str, http_addr: str) -> str:
    """Return the address at which other machines reach a process that listens on `host`.

    For a wildcard this is the local address of the route to the Consul agent. When the agent's name does not
    resolve, as happens while the agent is down, this is the name of the host.
    """
    if host not in _WILDCARDS:
        return host
    _, agent_host, agent_port = split_consul_url(http_addr)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:  # a UDP connect sends nothing
        try:
            probe.connect((agent_host, agent_port))
        except OSError:
            return socket.gethostname()
        return str(probe.getsockname()[0])


class Registrar:
    """Registers one instance at the agent `http_addr` (`host:port` or a URL)."""

    def __init__(self, instance: Instance, http_addr: str, token: str | None = None) -> None:
        self.instance = instance
        scheme, host, port = split_consul_url(http_addr)
        self._agent = consul.Consul(
            host=host, port=port, scheme=scheme, token=token, connections_timeout=REQUEST_TIMEOUT_SECONDS
        ).agent

    def register(self) -> None:
        instance = self.instance
        check = consul.Check.http(instance.health_url, CHECK_INTERVAL, CHECK_TIMEOUT, DEREGISTER_AFTER)
        self._agent.service.register(
            instance.service,
            service_id=instance.instance_id,
            address=instance.address,
            port=instance.port,
            meta=instance.meta,
            # By default a check starts critical, which would hide a healthy instance until the first check.
            check={**check, "status": "passing"},
        )

    def is_known(self) -> bool:
        return self.instance.instance_id in self._agent.services()

    def deregister(self) -> None:
        """Remove the instance. When the agent is unreachable, its own check removes the instance later."""
        try:
            self._agent.service.deregister(self.instance.instance_id)
        except _FAILURES as error:
            log.warning("could not deregister %s from Consul: %s", self.instance.instance_id, error)

    def keep(self, wait: Callable[[float], bool], is_ready: Callable[[], bool] = lambda: True) -> None:
        """Register when `is_ready` returns True, then again whenever the agent has forgotten the instance.

        `wait(seconds)` sleeps, and returns True to stop. Callers should not find an instance before it is
        ready.
        """
        while not is_ready():
            if wait(READY_POLL_SECONDS):
                return
        registered = reported = False
        while True:
            try:
                self._ensure_registered(registered)
                registered, reported = True, False
            except _FAILURES as error:
                if not reported:
                    log.warning(
                        "Consul does not answer, %s is not registered: %s", self.instance.instance_id, error
                    )
                registered, reported = False, True
            if wait(VERIFY_SECONDS):
                return

    def _ensure_registered(self, registered: bool) -> None:
        if not registered or not self.is_known():
            self.register()
            log.info("registered with Consul as %s", self.instance.instance_id)
