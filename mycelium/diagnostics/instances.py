"""Who is there: what Consul knows of each instance, beside what the gateway sees when it calls."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from mycelium.runner.process_plan import GATEWAY, SERVICES

ASK_SECONDS = 3.0
QUEUE = "its queue"
"""In place of an instance: an RPC reaches whichever of them takes it."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One instance, or a service behind its queue. What one side does not know is empty or None."""

    service: str
    instance: str
    checks: str
    version: str
    connected: bool | None
    calls: int | None
    failed: int | None
    in_flight: int | None
    mean_ms: float | None
    breaker: str


def look(consul_addr: str | None, token: str | None, metrics_urls: str | None) -> list[Seen]:
    """`metrics_urls` has commas between: one for each gateway. Raises httpx.HTTPError when Consul does not
    answer, or none of those, and ValueError when what is answered makes no sense."""
    with httpx.Client(timeout=ASK_SECONDS, trust_env=False) as http:
        known = _registered(http, consul_addr, token) if consul_addr else {}
        called = _look_at(http, metrics_urls.split(",")) if metrics_urls else {}
    everybody = sorted({*known, *called})
    return [Seen(*one, **(_UNKNOWN | known.get(one, {}) | called.get(one, {}))) for one in everybody]


_UNKNOWN: dict[str, Any] = {
    "checks": "",
    "version": "",
    "connected": None,
    "calls": None,
    "failed": None,
    "in_flight": None,
    "mean_ms": None,
    "breaker": "",
}

_COUNTED = {
    "gateway_target_calls_total": "calls",
    "gateway_target_failures_total": "failed",
    "gateway_target_calls_in_flight": "in_flight",
}
_STATES = ("closed", "half-open", "open")

Found = dict[tuple[str, str], dict[str, Any]]


def _registered(http: httpx.Client, consul_addr: str, token: str | None) -> Found:
    base = consul_addr if "//" in consul_addr else f"http://{consul_addr}"
    headers = {"X-Consul-Token": token} if token else {}
    found: Found = {}
    for service in (*SERVICES, GATEWAY):
        answer = http.get(f"{base}/v1/health/service/{service}", headers=headers).raise_for_status()
        for entry in answer.json():
            instance = entry["Service"]
            address = instance["Address"] or entry["Node"]["Address"]
            host = f"[{address}]" if ":" in address else address
            found[service, f"{host}:{instance['Port']}"] = {
                "checks": ", ".join(_checks(entry["Checks"])),
                "version": (instance.get("Meta") or {}).get("version", ""),
            }
    return found


def _checks(checks: list[Mapping[str, Any]]) -> Iterator[str]:
    """In one word when all pass, else those that do not."""
    failing = [check for check in checks if check["Status"] != "passing"]
    if not failing:
        yield "passing"
    for check in failing:
        yield f"{check['Name']}: {check['Status']}"


def _called(metrics: Iterable[str]) -> Found:
    """All gateways together: their calls added up, and of their connections and breakers the worst."""
    found: Found = {}
    seconds: defaultdict[tuple[str, str], float] = defaultdict(float)
    for sample in _samples(metrics):
        where = sample.labels.get("service", ""), sample.labels.get("instance") or QUEUE
        if name := _COUNTED.get(sample.name):
            figures = found.setdefault(where, {})
            figures[name] = figures.get(name, 0) + int(sample.value)
        elif sample.name == "gateway_target_ready":
            figures = found.setdefault(where, {})
            figures["connected"] = bool(sample.value) and figures.get("connected", True)
        elif sample.name == "gateway_breaker" and sample.value:
            figures = found.setdefault(where, {})
            states = sample.labels["state"], figures.get("breaker", _STATES[0])
            figures["breaker"] = max(states, key=_STATES.index)
        elif sample.name == "gateway_target_seconds_total":
            seconds[where] += sample.value
    for where, figures in found.items():
        ended = figures.get("calls", 0) - figures.get("in_flight", 0)
        figures["mean_ms"] = round(1000 * seconds[where] / ended, 1) if ended > 0 else None
    return found


def _look_at(http: httpx.Client, urls: Sequence[str]) -> Found:
    """What those see that answer; one that does not is in the list, for its figures are missing."""
    texts, silent = [], {}
    for url in filter(None, map(str.strip, urls)):
        try:
            texts.append(http.get(url).raise_for_status().text)
        except httpx.HTTPError as error:
            silent[url] = error
    if silent and not texts:
        raise next(iter(silent.values()))
    return _called(texts) | {(GATEWAY, url): {"checks": "no answer"} for url in silent}


def _samples(metrics: Iterable[str]) -> Iterator[Sample]:
    for text in metrics:
        for family in text_string_to_metric_families(text):
            yield from family.samples
