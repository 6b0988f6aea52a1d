"""Follows the healthy instances of a service in Consul: the protocol without I/O, for any HTTP client.

A driver sends the queries, passes on the responses, and sleeps between the queries:

    while True:
        try:
            response = get(
                watch.url, params=watch.params(), headers=watch.headers, timeout=QUERY_TIMEOUT_SECONDS
            )
            watch.on_response(response.status_code, response.headers, response.content)
        except ...:
            watch.on_failure(error)
        sleep(watch.pause_seconds())

The rules for the index are Consul's (HTTP API, "Blocking Queries"). Queries allow stale reads, so that any
server of a cluster can answer, even without a leader.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from nameko_mesh.backoff import back_off
from nameko_mesh.discovery.address import consul_url, join_host_port, split_host_port

log = logging.getLogger(__name__)

WAIT_SECONDS = 30
"""Consul holds a query for this long while nothing changes, and adds up to a sixteenth of jitter."""
QUERY_TIMEOUT_SECONDS = WAIT_SECONDS * 17 / 16 + 3.0
MIN_QUERY_INTERVAL_SECONDS = 0.1
"""Limits the rate of queries while the catalogue changes often."""
MAX_BACK_OFF_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The address of one instance of a service. Endpoints with the same address are equal."""

    host: str
    port: int
    instance_id: str = field(default="", compare=False)
    meta: Mapping[str, str] = field(default_factory=dict, compare=False)

    def __str__(self) -> str:
        return join_host_port(self.host, self.port)


class InvalidConsulResponse(Exception):
    """A response that is not a valid list of instances, or an error of Consul's."""


def parse_endpoints(text: str) -> tuple[Endpoint, ...]:
    """Parse `host:port,host:port`. Raises ValueError."""
    parts = filter(None, (part.strip() for part in text.split(",")))
    return tuple(Endpoint(*split_host_port(part)) for part in parts)


def parse_passing(body: bytes) -> tuple[Endpoint, ...]:
    """Parse the body of /v1/health/service, sorted by address. Raises InvalidConsulResponse."""
    try:
        endpoints = {_endpoint(entry) for entry in json.loads(body)}
    except (ValueError, TypeError, KeyError) as error:
        raise InvalidConsulResponse(f"the response is no list of instances: {error!r}") from None
    return tuple(sorted(endpoints, key=str))


def _endpoint(entry: Mapping[str, Any]) -> Endpoint:
    service = entry["Service"]
    host = service["Address"] or entry["Node"]["Address"]  # empty means the address of the node
    return Endpoint(str(host), int(service["Port"]), str(service["ID"]), service.get("Meta") or {})


def next_index(before: int, header: str | None) -> int:
    """Return the index of the next query; 0 restarts, because Consul's index went backwards.

    Raises InvalidConsulResponse when the header X-Consul-Index is no number.
    """
    if header is None or not header.isdecimal():
        raise InvalidConsulResponse(f"X-Consul-Index: {header!r}")
    index = int(header)
    return index if index >= max(before, 1) else 0


class Watch:
    """Follows the instances of `service` whose checks pass, and calls `on_change` after each change.

    `endpoints` are the latest known instances, at first those of `static`. An empty list changes nothing,
    because Consul also sends an empty list after it lost its data or its view of the services. Instances that
    are really gone refuse connections, so keeping them does no harm.
    """

    def __init__(
        self,
        http_addr: str,
        service: str,
        *,
        token: str | None = None,
        static: tuple[Endpoint, ...] = (),
        on_change: Callable[[tuple[Endpoint, ...]], None] = lambda endpoints: None,
    ) -> None:
        self.service = service
        self.url = f"{consul_url(http_addr)}/v1/health/service/{quote(service, safe='')}"
        self.headers = {"X-Consul-Token": token} if token else {}
        self.endpoints = static
        self._on_change = on_change
        self._index = 0
        self._failures = 0
        self._queried_at = 0.0

    def params(self) -> dict[str, str]:
        """Return the parameters of a query that is sent now."""
        self._queried_at = time.monotonic()
        params = {"passing": "1", "stale": ""}
        if self._index:
            params |= {"index": str(self._index), "wait": f"{WAIT_SECONDS}s"}
        return params

    def on_response(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Take the response of a query. Raises InvalidConsulResponse, and then changes nothing."""
        if status != 200:
            raise InvalidConsulResponse(f"status {status}: {body[:200]!r}")
        index = next_index(self._index, headers.get("X-Consul-Index"))
        endpoints = parse_passing(body)
        if self._failures:
            log.info("Consul answers again for %s", self.service)
        self._index, self._failures = index, 0
        if endpoints and endpoints != self.endpoints:
            log.info("%s: %s", self.service, ", ".join(map(str, endpoints)))
            self.endpoints = endpoints
            self._on_change(endpoints)

    def on_failure(self, error: Exception) -> None:
        """Take the failure of a query. The next query starts from index 0, perhaps at another server."""
        self._index = 0
        self._failures += 1
        if self._failures == 1:
            known = ", ".join(map(str, self.endpoints)) or "none"
            log.warning(
                "Consul does not answer for %s, keeping its known instances (%s): %r",
                self.service,
                known,
                error,
            )

    def pause_seconds(self) -> float:
        """Return the seconds to wait before the next query."""
        if self._failures:
            return max(MIN_QUERY_INTERVAL_SECONDS, back_off(self._failures, longest=MAX_BACK_OFF_SECONDS))
        return max(0.0, self._queried_at + MIN_QUERY_INTERVAL_SECONDS - time.monotonic())
