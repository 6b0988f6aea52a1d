"""Follows the instances of a service in Consul, from asyncio."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import httpx

from nameko_mesh.discovery.consul_watch import QUERY_TIMEOUT_SECONDS, Watch

CONNECT_TIMEOUT_SECONDS = 2.0


class Discovery:
    """Runs the queries of a `Watch` from `start` until `stop`, whatever Consul responds."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._follow(), name=f"discovery of {self._watch.service}")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _follow(self) -> None:
        watch = self._watch
        timeout = httpx.Timeout(QUERY_TIMEOUT_SECONDS, connect=CONNECT_TIMEOUT_SECONDS)
        async with httpx.AsyncClient(timeout=timeout, headers=watch.headers, trust_env=False) as http:
            while True:
                try:
                    response = await http.get(watch.url, params=watch.params())
                    watch.on_response(response.status_code, response.headers, response.content)
                except Exception as error:  # a defect here must not end the discovery for ever
                    watch.on_failure(error)
                await asyncio.sleep(watch.pause_seconds())
