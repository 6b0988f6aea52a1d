"""Checks the parts that a service needs: its broker, its consumers and its database, if any."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import eventlet

from nameko_mesh.amqp.consumer_probe import ConsumerProbe, ProbedConsumer
from nameko_mesh.errors import Unavailable

READY_TIMEOUT_SECONDS = 0.8
"""For all probes of readiness together. Consul's own timeout for a check is 1 s."""
HEALTH_TIMEOUT_SECONDS = 1.5


class Probes:
    """Probes the extensions of one container, whose `setup` has run by the first probe.

    The `consumer` of an extension is probed by a message. The method `probe()` of an extension queries its
    database, and raises when the database does not answer; only the engine of `nameko_mesh.sql` has this
    method. A service without a database therefore needs neither DATABASE_URL nor SQLAlchemy.
    """

    def __init__(self, container: Any) -> None:
        self._container = container
        self._consumer_probe = ConsumerProbe()

    def missing(self) -> list[str]:
        """Return the missing parts: `broker`, `consumer` or `database`."""
        queries = [eventlet.spawn(_answers, query) for query in self._parts("probe")]
        missing = self._missing_from_broker()
        return missing if all(query.wait() for query in queries) else [*missing, "database"]

    def lost_consumers(self) -> list[str]:
        """Return the queues whose consumer is lost while the broker works, which a restart repairs."""
        try:
            lost = self._consumer_probe.unreachable(self._consumers(), HEALTH_TIMEOUT_SECONDS)
        except Unavailable:
            return []
        return [queue.name for consumer in lost for queue in consumer.queues]

    def close(self) -> None:
        self._consumer_probe.close()

    def _missing_from_broker(self) -> list[str]:
        if not all(consumer.probe_queue for consumer in self._consumers()):
            return ["broker"]  # a consumer has not connected yet
        try:
            lost = self._consumer_probe.unreachable(self._consumers(), READY_TIMEOUT_SECONDS)
        except Unavailable:
            return ["broker"]
        return ["consumer"] if lost else []

    def _consumers(self) -> list[ProbedConsumer]:
        return [consumer for consumer in self._parts("consumer") if isinstance(consumer, ProbedConsumer)]

    def _parts(self, attribute: str) -> list[Any]:
        parts = (getattr(extension, attribute, None) for extension in self._container.extensions)
        return [part for part in parts if part is not None]


def _answers(query: Callable[[], None]) -> bool:
    try:
        with eventlet.Timeout(READY_TIMEOUT_SECONDS, TimeoutError()):
            query()
    except Exception:
        return False
    return True
