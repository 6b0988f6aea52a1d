"""The instances of another service, for a Nameko service that calls them directly.

products = Instances("products", static_setting="PRODUCTS_GRPC")

for endpoint in self.products.endpoints: ...
"""

from __future__ import annotations

from typing import Any

import eventlet
import requests
from nameko.extensions import DependencyProvider

from nameko_mesh import settings
from nameko_mesh.discovery.consul_watch import ASK_SECONDS, Watch, parse_endpoints

CONNECT_SECONDS = 2.0


class Instances(DependencyProvider):
    """Injects a `Watch`, which a green thread keeps up to date from `start` until `stop`.

    Without CONSUL_HTTP_ADDR the addresses of `static_setting` are all there is (`host:port`, with commas
    between); with it they are what is known before Consul has answered.
    """

    def __init__(self, service: str, static_setting: str | None = None) -> None:
        self.service = service
        self.static_setting = static_setting

    def setup(self) -> None:
        written = settings.optional(self.static_setting, "") if self.static_setting else ""
        self._http_addr = str(settings.optional("CONSUL_HTTP_ADDR", ""))
        self.watch = Watch(
            self._http_addr,
            self.service,
            token=settings.optional("CONSUL_HTTP_TOKEN"),
            static=parse_endpoints(str(written)),
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
        watch = self.watch
        with requests.Session() as http:
            http.trust_env = False
            http.headers.update(watch.headers)
            while True:
                try:
                    answer = http.get(
                        watch.url, params=watch.params(), timeout=(CONNECT_SECONDS, ASK_SECONDS)
                    )
                    watch.answered(answer.status_code, answer.headers, answer.content)
                except Exception as error:  # a defect of ours must not leave us blind for ever
                    watch.failed(error)
                eventlet.sleep(watch.pause())
