"""This instance in Consul's catalogue, kept there by a thread: the client library blocks."""

from __future__ import annotations

import asyncio
import threading

from nameko_mesh.discovery.consul_registration import Instance, Registrar, reachable_address

from .settings import Settings

_STOP_SECONDS = 5.0


class ConsulRegistration:
    """Registered from `start` until `stop`; without an agent it keeps trying and hurts nobody."""

    def __init__(self, settings: Settings, agent: str) -> None:
        address = settings.ADVERTISE_ADDRESS or reachable_address(settings.GATEWAY_HOST, agent)
        meta = {"version": settings.SERVICE_VERSION}
        instance = Instance.at(address, "gateway", health_port=settings.GATEWAY_PORT, meta=meta)
        token = settings.CONSUL_HTTP_TOKEN
        self._registrar = Registrar(instance, agent, token.get_secret_value() if token else None)
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="consul", daemon=True)

    def start(self) -> None:
        self._thread.start()

    async def stop(self) -> None:
        """Leave the catalogue; returns after a few seconds even if the agent does not answer."""
        self._leaving.set()
        await asyncio.to_thread(self._thread.join, _STOP_SECONDS)

    def _keep(self) -> None:
        self._registrar.keep(self._leaving.wait)
        self._registrar.deregister()
