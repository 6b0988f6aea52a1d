"""Every instance of a mesh: its registration in Consul beside what the gateways measure when they call it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from mycelium.runner.process_plan import GATEWAY, SERVICES
from nameko_mesh.discovery.address import consul_url, join_host_port

HTTP_TIMEOUT_SECONDS = 3.0
QUEUE = "its queue"
"""The name of a service's queue in place of an instance, because any instance may take an RPC."""


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance, or a service behind its queue. Fields without a source are empty or None."""

    service: str
    instance: str
    checks: str = ""
    version: str = ""
    connected: bool | None = None
    calls: int | None = None
    failed: int | None = None
    in_flight: int | None = None
    mean_ms: float | None = None
    breaker: str = ""


def list_instances(consul_addr: str | None, token: str | None, metrics_urls: str | None) -> list[Instance]:
    """Return the instances by service and address.

    `metrics_urls` holds the URL of each gateway's metrics, separated by commas. Raises httpx.HTTPError when
    Consul or every gateway fails to answer, and ValueError when an answer cannot be parsed.
    """
    with httpx.Client(timeout=HTTP_TIMEOUT_SECONDS, trust_env=False) as http:
        registered = _read_consul(http, consul_addr, token) if consul_addr else {}
        measured = _read_metrics(http, metrics_urls.split(",")) if metrics_urls else {}
    keys = sorted({*registered, *measured})
    return [Instance(*key, **(registered.get(key, {}) | measured.get(key, {}))) for key in keys]


_COUNTERS = {
    "gateway_target_calls_total": "calls",
    "gateway_target_failures_total": "failed",
    "gateway_target_calls_in_flight": "in_flight",
}
_BREAKER_STATES = ("closed", "half-open", "open")

InstanceFields = dict[tuple[str, str], dict[str, Any]]
"""Fields of `Instance`, by service and instance."""


def _read_consul(http: httpx.Client, consul_addr: str, token: str | None) -> InstanceFields:
    base = consul_url(consul_addr)
    headers = {"X-Consul-Token": token} if token else {}
    fields: InstanceFields = {}
    for service in (*SERVICES, GATEWAY):
        response = http.get(f"{base}/v1/health/service/{service}", headers=headers).raise_for_status()
        for entry in response.json():
            registration = entry["Service"]
            address = registration["Address"] or entry["Node"]["Address"]
            fields[service, join_host_port(address, registration["Port"])] = {
                "checks": ", ".join(_checks(entry["Checks"])),
                "version": (registration.get("Meta") or {}).get("version", ""),
            }
    return fields


def _checks(checks: list[Mapping[str, Any]]) -> Iterator[str]:
    """Yield "passing" when all checks pass, else the name and status of each failing check."""
    failing = [check for check in checks if check["Status"] != "passing"]
    if not failing:
        yield "passing"
    for check in failing:
        yield f"{check['Name']}: {check['Status']}"


def _read_metrics(http: httpx.Client, urls: Sequence[str]) -> InstanceFields:
    """Merge the metrics of the gateways that answer. A silent gateway is listed with "no answer"."""
    texts, silent = [], {}
    for url in filter(None, map(str.strip, urls)):
        try:
            texts.append(http.get(url).raise_for_status().text)
        except httpx.HTTPError as error:
            silent[url] = error
    if silent and not texts:
        raise next(iter(silent.values()))
    return _merge_metrics(texts) | {(GATEWAY, url): {"checks": "no answer"} for url in silent}


def _merge_metrics(texts: Iterable[str]) -> InstanceFields:
    """Add up the gateways' calls, and keep the worst of their connections and breakers."""
    merged: InstanceFields = {}
    seconds: defaultdict[tuple[str, str], float] = defaultdict(float)
    for sample in _samples(texts):
        key = sample.labels.get("service", ""), sample.labels.get("instance") or QUEUE
        if sample.name == "gateway_target_seconds_total":
            seconds[key] += sample.value
        elif sample.name in _MERGERS:
            _MERGERS[sample.name](merged.setdefault(key, {}), sample)
    for key, fields in merged.items():
        finished = fields.get("calls", 0) - fields.get("in_flight", 0)
        fields["mean_ms"] = round(1000 * seconds[key] / finished, 1) if finished > 0 else None
    return merged


def _add_count(fields: dict[str, Any], sample: Sample) -> None:
    name = _COUNTERS[sample.name]
    fields[name] = fields.get(name, 0) + int(sample.value)


def _keep_disconnected(fields: dict[str, Any], sample: Sample) -> None:
    fields["connected"] = bool(sample.value) and fields.get("connected", True)


def _keep_worst_breaker(fields: dict[str, Any], sample: Sample) -> None:
    if sample.value:  # 1 at the breaker's present state, 0 at the others
        states = sample.labels["state"], fields.get("breaker", _BREAKER_STATES[0])
        fields["breaker"] = max(states, key=_BREAKER_STATES.index)


_MERGERS = {
    **dict.fromkeys(_COUNTERS, _add_count),
    "gateway_target_ready": _keep_disconnected,
    "gateway_breaker": _keep_worst_breaker,
}


def _samples(texts: Iterable[str]) -> Iterator[Sample]:
    for text in texts:
        for family in text_string_to_metric_families(text):
            yield from family.samples
