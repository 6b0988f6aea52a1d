"""Registration with Consul: one instance of a service, kept in the catalogue while it lives.

Blocking calls with a limit each: run `keep` in a green thread of a service, or in a real thread
of an asyncio program.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

import consul
import requests

log = logging.getLogger(__name__)

AGENT_PORT = 8500
REQUEST_SECONDS = 2.0
CHECK_INTERVAL = "2s"
CHECK_TIMEOUT = "1s"
DEREGISTER_AFTER = "1m"
"""Consul's shortest: an instance that has been critical for so long is dropped from the catalogue."""
VERIFY_SECONDS = 5.0
"""How often to look whether the agent still knows this instance: it forgets when it restarts."""

_WILDCARDS = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - recognised, not bound to
_FAILURES = (consul.ConsulException, requests.RequestException, OSError)


@dataclass(frozen=True, kw_only=True)
class Instance:
    """What Consul is told: `port` is where the service is served, `health_url` says how it is."""

    service: str
    address: str
    port: int
    health_url: str
    meta: dict[str, str] = field(default_factory=dict)

    @property
    def instance_id(self) -> str:
        return f"{self.service}-{self.address.replace('.', '-')}-{self.port}-{os.getpid()}"


def reachable_address(host: str, http_addr: str) -> str:
    """The address to tell Consul for a process that listens on `host`.

    For a wildcard it is the one with which this machine reaches the agent; the host's own name when
    the agent's name does not resolve, as happens while it is away.
    """
    if host not in _WILDCARDS:
        return host
    url = _split(http_addr)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:  # to connect it sends nothing
        try:
            probe.connect((url.hostname or "127.0.0.1", url.port or AGENT_PORT))
        except OSError:
            return socket.gethostname()
        return str(probe.getsockname()[0])


def _split(http_addr: str) -> SplitResult:
    return urlsplit(http_addr if "//" in http_addr else f"http://{http_addr}")


class Registrar:
    """Registers one instance at the agent `http_addr` (`host:port` or a URL)."""

    def __init__(self, instance: Instance, http_addr: str, token: str | None = None) -> None:
        self.instance = instance
        url = _split(http_addr)
        self._agent = consul.Consul(
            host=url.hostname,
            port=url.port or AGENT_PORT,
            scheme=url.scheme,
            token=token,
            connections_timeout=REQUEST_SECONDS,
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
            # A check starts critical, and would keep a healthy instance hidden until its first run.
            check={**check, "status": "passing"},
        )

    def is_known(self) -> bool:
        return self.instance.instance_id in self._agent.services()

    def deregister(self) -> None:
        """Leave the catalogue. An agent that can't be reached will find out by its check."""
        try:
            self._agent.service.deregister(self.instance.instance_id)
        except _FAILURES as error:
            log.warning("could not deregister from Consul: %s", error)

    def keep(self, wait: Callable[[float], bool]) -> None:
        """Register, and register again whenever the agent has forgotten.

        `wait(seconds)` sleeps, and says True when it is time to stop.
        """
        registered = reported = False
        while True:
            try:
                if not registered or not self.is_known():
                    self.register()
                    log.info("registered with Consul as %s", self.instance.instance_id)
                registered, reported = True, False
            except _FAILURES as error:
                if not reported:
                    log.warning("Consul does not answer, running on without it: %s", error)
                registered, reported = False, True
            if wait(VERIFY_SECONDS):
                return
