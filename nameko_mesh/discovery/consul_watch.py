"""What Consul's catalogue says of one service, and how to follow it; without I/O, for any kind of driver.

A driver asks `url` with `params()` and `headers`, tells what came, and waits as long as it is told:

    while True:
        try:
            answer = get(watch.url, params=watch.params(), headers=watch.headers, timeout=ASK_SECONDS)
            watch.answered(answer.status_code, answer.headers, answer.content)
        except ...:
            watch.failed(error)
        wait(watch.pause())

The rules for the index are Consul's own (HTTP API, "Blocking Queries"); stale reads are allowed, so that
any server of a cluster answers, also one that has lost its leader.
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

log = logging.getLogger(__name__)

WAIT_SECONDS = 30
"""For how long Consul holds back an answer that tells no news; it adds up to a sixteenth of jitter."""
ASK_SECONDS = WAIT_SECONDS * 17 / 16 + 3.0
LEAST_SECONDS = 0.1
"""Between two questions, however much happens in the catalogue."""
LONGEST_BACK_OFF = 2.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where one instance of a service is reached. The same address is the same endpoint."""

    host: str
    port: int
    instance_id: str = field(default="", compare=False)
    meta: Mapping[str, str] = field(default_factory=dict, compare=False)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class NotTheCatalogue(Exception):
    """An answer that Consul would not give, or only when it is in trouble."""


def parse_endpoints(written: str) -> tuple[Endpoint, ...]:
    """`host:port,host:port` -> endpoints. Raises ValueError."""
    endpoints = []
    for each in filter(None, (part.strip() for part in written.split(","))):
        host, _, port = each.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ValueError(f"{each!r} is no host:port")
        endpoints.append(Endpoint(host.removeprefix("[").removesuffix("]"), int(port)))
    return tuple(endpoints)


def parse_passing(body: bytes) -> tuple[Endpoint, ...]:
    """The answer of /v1/health/service as endpoints, by address. Raises NotTheCatalogue."""
    try:
        found = {_endpoint(entry) for entry in json.loads(body)}
    except (ValueError, TypeError, KeyError) as error:
        raise NotTheCatalogue(f"an answer that is no list of instances: {error!r}") from None
    return tuple(sorted(found, key=str))


def _endpoint(entry: Mapping[str, Any]) -> Endpoint:
    service = entry["Service"]
    host = service["Address"] or entry["Node"]["Address"]  # empty: it is reached at its node
    return Endpoint(str(host), int(service["Port"]), str(service["ID"]), service.get("Meta") or {})


def next_index(before: int, told: str | None) -> int:
    """The index to ask with: 0, which asks anew, when Consul's went backwards or is none.

    Raises NotTheCatalogue when there is no number.
    """
    if told is None or not told.isdecimal():
        raise NotTheCatalogue(f"X-Consul-Index: {told!r}")
    index = int(told)
    return index if index >= max(before, 1) else 0


class Watch:
    """Follows the instances of `service` that pass their checks.

    `endpoints` are the last ones known, at first those of `static`. An empty answer is no news: Consul
    gives one when it has lost its memory or its sight of the services as well, those who have really gone
    refuse their connections, and nobody is better than the ones before. `on_change` is told each change.
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
        base = http_addr if "//" in http_addr else f"http://{http_addr}"
        self.url = f"{base.rstrip('/')}/v1/health/service/{quote(service, safe='')}"
        self.headers = {"X-Consul-Token": token} if token else {}
        self.endpoints = static
        self._on_change = on_change
        self._index = 0
        self._failures = 0
        self._asked = 0.0

    def params(self) -> dict[str, str]:
        self._asked = time.monotonic()
        asked = {"passing": "1", "stale": ""}
        if self._index:
            asked |= {"index": str(self._index), "wait": f"{WAIT_SECONDS}s"}
        return asked

    def answered(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Raises NotTheCatalogue; nothing has changed then."""
        if status != 200:
            raise NotTheCatalogue(f"status {status}: {body[:200]!r}")
        index = next_index(self._index, headers.get("X-Consul-Index"))
        endpoints = parse_passing(body)
        if self._failures:
            log.info("Consul answers again about %s", self.service)
        self._index, self._failures = index, 0
        if endpoints and endpoints != self.endpoints:
            log.info("%s: %s", self.service, ", ".join(map(str, endpoints)))
            self.endpoints = endpoints
            self._on_change(endpoints)

    def failed(self, error: Exception) -> None:
        self._index = 0  # whoever answers next may be another server, or have begun anew
        self._failures += 1
        if self._failures == 1:
            known = ", ".join(map(str, self.endpoints)) or "none"
            log.warning("Consul does not tell about %s, going on with %s: %r", self.service, known, error)

    def pause(self) -> float:
        """Seconds to wait before the next question."""
        if self._failures:
            return max(LEAST_SECONDS, back_off(self._failures, longest=LONGEST_BACK_OFF))
        return max(0.0, self._asked + LEAST_SECONDS - time.monotonic())
