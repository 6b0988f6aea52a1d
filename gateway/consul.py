"""The gateway's entry in Consul. A thread keeps it up to date, because the client library blocks."""

from __future__ import annotations

import asyncio
import threading

from nameko_mesh.discovery.consul_registration import Instance, Registrar, reachable_address

from .settings import Settings

_STOP_TIMEOUT_SECONDS = 5.0


class ConsulRegistration:
    """Registers the gateway from `start` until `stop`. While the agent is away it keeps trying."""

    def __init__(self, settings: Settings, agent: str) -> None:
        address = settings.ADVERTISE_ADDRESS or reachable_address(settings.GATEWAY_HOST, agent)
        meta = {"version": settings.SERVICE_VERSION}
        instance = Instance.at(address, "gateway", health_port=settings.GATEWAY_PORT, meta=meta)
        token = settings.CONSUL_HTTP_TOKEN
        self._registrar = Registrar(instance, agent, token.get_secret_value() if token else None)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="consul", daemon=True)

    def start(self) -> None:
        self._thread.start()

    async def stop(self) -> None:
        """Deregister. Returns after a few seconds even if the agent does not answer."""
        self._stopping.set()
        await asyncio.to_thread(self._thread.join, _STOP_TIMEOUT_SECONDS)

    def _run(self) -> None:
        self._registrar.keep(self._stopping.wait)
        self._registrar.deregister()
