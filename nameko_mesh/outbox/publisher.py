"""Events on both of their ways: bundles for handlers of the mesh, one by one for whoever else listens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson

from nameko_mesh.amqp.confirmed_publisher import ConfirmedPublisher, OutgoingMessage, PublishResult
from nameko_mesh.events import exchanges
from nameko_mesh.outbox.messages import EventMessage

CONFIRM_SECONDS = 3.0
MOST_AT_ONCE = 500
"""Messages that leave before the confirms of those before them are there."""


class EventPublisher:
    """Publishes the events of one service. For one green thread at a time."""

    def __init__(self, service: str) -> None:
        plain, bundles = exchanges.plain(service), exchanges.bundles(service)
        self._plain, self._bundles = plain.name, bundles.name
        self._publisher = ConfirmedPublisher(plain, bundles)

    def close(self) -> None:
        self._publisher.close()

    def publish(self, messages: Sequence[EventMessage]) -> list[PublishResult]:
        """The fate of each. Whether anybody listens to single events of a type is told by the fate of one:
        the first of the first message.

        Raises Unavailable when not all fates are known in time.
        """
        wholes = [
            OutgoingMessage(f"{one.first.first_event_id}+", self._bundles, one.type, _whole(one), one.awaited)
            for one in messages
        ]
        asking: dict[str, EventMessage] = {}
        for one in messages:
            asking.setdefault(one.type, one)
        questions = [
            self._single(kind, one.first.first_event_id, one.first.first, True)
            for kind, one in asking.items()
        ]
        fates = self._publisher.publish([*wholes, *questions], CONFIRM_SECONDS)
        answers = dict(zip(asking, fates[len(messages) :], strict=True))
        others = self._publish_others(
            [
                (number, self._single(one.type, event_id, body, one.awaited))
                for number, one in enumerate(messages)
                if answers[one.type] is PublishResult.CONFIRMED
                for event_id, body in _events(one, but_the_first=one is asking[one.type])
            ]
        )
        return [
            _joint([whole, answers[one.type], *others.get(number, ())], one.awaited)
            for number, (one, whole) in enumerate(zip(messages, fates, strict=False))
        ]

    def _single(self, kind: str, event_id: str, body: bytes, mandatory: bool = False) -> OutgoingMessage:
        return OutgoingMessage(event_id, self._plain, kind, body, mandatory, exchanges.MARK)

    def _publish_others(
        self, parcels: Sequence[tuple[int, OutgoingMessage]]
    ) -> Mapping[int, set[PublishResult]]:
        """What became of them, by number."""
        found: dict[int, set[PublishResult]] = {}
        for start in range(0, len(parcels), MOST_AT_ONCE):
            some = parcels[start : start + MOST_AT_ONCE]
            fates = self._publisher.publish([parcel for _, parcel in some], CONFIRM_SECONDS)
            for (number, _), fate in zip(some, fates, strict=True):
                found.setdefault(number, set()).add(fate)
        return found


def _whole(one: EventMessage) -> bytes:
    """One event as it is alone, several as a list of them."""
    if one.size == 1:
        return one.first.first
    return b"[" + b",".join([row.envelopes[1:-1] for row in one.rows]) + b"]"


def _events(one: EventMessage, *, but_the_first: bool) -> list[tuple[str, bytes]]:
    """Its events, each by its id and as JSON."""
    events = [event for row in one.rows for event in row.events]
    return [(event["event_id"], orjson.dumps(event)) for event in events[but_the_first:]]


def _joint(fates: Sequence[PublishResult], awaited: bool) -> PublishResult:
    """Of a message, by that of the whole and those of its single events."""
    whole, *singles = fates
    if PublishResult.REJECTED in fates:
        return PublishResult.REJECTED
    if awaited and whole is PublishResult.UNROUTABLE and PublishResult.UNROUTABLE in singles:
        return PublishResult.UNROUTABLE
    return PublishResult.CONFIRMED
