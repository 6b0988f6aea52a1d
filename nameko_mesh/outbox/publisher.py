"""Publishes events on two exchanges: bundles for handlers of nameko_mesh, single events for others.

`events.exchanges` shows the exchanges. Single events are published only while some queue takes them. The
first event of each type is published as mandatory, to find that out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nameko_mesh.amqp.confirmed_publisher import ConfirmedPublisher, OutgoingMessage, PublishResult
from nameko_mesh.events import exchanges
from nameko_mesh.outbox.messages import EventMessage

CONFIRM_TIMEOUT_SECONDS = 3.0
MAX_UNCONFIRMED = 500
"""Limit of the messages that are published before their confirms are awaited."""


class EventPublisher:
    """Publishes the events of one service. One green thread may use it at a time."""

    def __init__(self, service: str) -> None:
        plain, bundles = exchanges.plain(service), exchanges.bundles(service)
        self._plain, self._bundles = plain.name, bundles.name
        self._publisher = ConfirmedPublisher(plain, bundles)

    def close(self) -> None:
        self._publisher.close()

    def publish(self, messages: Sequence[EventMessage]) -> list[PublishResult]:
        """Publish the messages and return the result of each, in the same order.

        Publish the first event of each type as mandatory. If it is returned, nobody listens and the rest are
        skipped. Raises Unavailable when a result is missing in time.
        """
        firsts: dict[str, EventMessage] = {}
        for message in messages:
            firsts.setdefault(message.type, message)
        bundles = [self._bundle(message) for message in messages]
        probes = [
            self._single(message, message.first.first_event_id, message.first.first, mandatory=True)
            for message in firsts.values()
        ]
        results = self._publisher.publish([*bundles, *probes], CONFIRM_TIMEOUT_SECONDS)
        bundle_results, probe_results = results[: len(messages)], results[len(messages) :]
        listened = dict(zip(firsts, probe_results, strict=True))
        single_results = self._publish_singles(messages, firsts, listened)
        return [
            _combine(bundle_result, {listened[message.type], *single_results[number]}, message.awaited)
            for number, (message, bundle_result) in enumerate(zip(messages, bundle_results, strict=True))
        ]

    def _publish_singles(
        self,
        messages: Sequence[EventMessage],
        firsts: Mapping[str, EventMessage],
        listened: Mapping[str, PublishResult],
    ) -> list[set[PublishResult]]:
        """Publish the single events of types that a queue takes, except the probes, which have left."""
        singles = [
            (number, self._single(message, event_id, body, mandatory=message.awaited))
            for number, message in enumerate(messages)
            if listened[message.type] is PublishResult.CONFIRMED
            for event_id, body in message.events()[1 if message is firsts[message.type] else 0 :]
        ]
        results: list[set[PublishResult]] = [set() for _ in messages]
        for start in range(0, len(singles), MAX_UNCONFIRMED):
            part = singles[start : start + MAX_UNCONFIRMED]
            part_results = self._publisher.publish([single for _, single in part], CONFIRM_TIMEOUT_SECONDS)
            for (number, _), result in zip(part, part_results, strict=True):
                results[number].add(result)
        return results

    def _bundle(self, message: EventMessage) -> OutgoingMessage:
        message_id = f"{message.first.first_event_id}+"
        return OutgoingMessage(message_id, self._bundles, message.type, message.body, message.awaited)

    def _single(
        self, message: EventMessage, event_id: str, body: bytes, *, mandatory: bool
    ) -> OutgoingMessage:
        return OutgoingMessage(event_id, self._plain, message.type, body, mandatory, exchanges.MARK)


def _combine(bundle: PublishResult, singles: set[PublishResult], awaited: bool) -> PublishResult:
    """Return the result of a message from the results of its bundle and of its single events."""
    if PublishResult.REJECTED in {bundle, *singles}:
        return PublishResult.REJECTED
    if awaited and bundle is PublishResult.UNROUTABLE and PublishResult.UNROUTABLE in singles:
        return PublishResult.UNROUTABLE
    return PublishResult.CONFIRMED
