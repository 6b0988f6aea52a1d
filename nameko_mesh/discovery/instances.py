"""The instances of another service, for a Nameko service that calls them directly.

    inventory = Instances("inventory", static_setting="INVENTORY_GRPC")

    for endpoint in self.inventory.endpoints: ...

Programs on asyncio use `nameko_mesh.aio.Discovery`.
"""

from __future__ import annotations

from typing import Any

import eventlet
import requests
from nameko.extensions import DependencyProvider

from nameko_mesh import settings
from nameko_mesh.discovery.consul_watch import QUERY_TIMEOUT_SECONDS, Watch, parse_endpoints

CONNECT_TIMEOUT_SECONDS = 2.0


class Instances(DependencyProvider):
    """Injects a `Watch`, which a green thread updates from `start` until `stop`.

    The setting `static_setting` lists initial addresses (`host:port`, separated by commas). Without
    CONSUL_HTTP_ADDR they are the only addresses.
    """

    def __init__(self, service: str, static_setting: str | None = None) -> None:
        self.service = service
        self.static_setting = static_setting

    def setup(self) -> None:
        addresses = settings.optional(self.static_setting, "") if self.static_setting else ""
        self._http_addr = str(settings.optional("CONSUL_HTTP_ADDR", ""))
        self.watch = Watch(
            self._http_addr,
            self.service,
            token=settings.optional("CONSUL_HTTP_TOKEN"),
            static=parse_endpoints(str(addresses)),
        )
        self._thread: Any = None

    def start(self) -> None:
        if self._http_addr:
            name = f"discovery of {self.service}"
            self._thread = self.container.spawn_managed_thread(self._follow, identifier=name)

    def stop(self) -> None:
        if self._thread is not None:
            self._thread.kill()

    def get_dependency(self, worker_ctx: Any) -> Watch:
        return self.watch

    def _follow(self) -> None:
        with requests.Session() as http:
            http.trust_env = False
            http.headers.update(self.watch.headers)
            while True:
                try:
                    self._query(http)
                except Exception as error:  # a defect here must not end the watch
                    self.watch.on_failure(error)
                eventlet.sleep(self.watch.pause_seconds())

    def _query(self, http: requests.Session) -> None:
        timeout = (CONNECT_TIMEOUT_SECONDS, QUERY_TIMEOUT_SECONDS)
        response = http.get(self.watch.url, params=self.watch.params(), timeout=timeout)
        self.watch.on_response(response.status_code, response.headers, response.content)
