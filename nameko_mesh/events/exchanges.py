"""The exchanges between a relay and the handlers of its events.

    <source>.events            as in stock Nameko: a message holds one event, and is routed by its type
    <source>.events.bundles    the same events for handlers of nameko_mesh: a message holds many events

The relay publishes each event on the second exchange, and on the first only while a queue takes it there.

A handler of nameko_mesh also receives foreign events: messages that other programs publish to
`<source>.events`, such as Nameko's own dispatcher. Two rules follow:

- The handler must not receive the relay's single events, because it already receives them in a bundle.
- Its queue must not count as a listener to single events, or the relay would publish them for nobody.

The relay therefore marks its single events. The queue is bound behind an exchange that drops marked events:

    <source>.events -> .others -> .had         marked events end here, because no queue is bound; the broker
                                               returns a mandatory event: the relay learns that nobody listens
                              `-> .foreign     unmarked events, by the alternate exchange of .others

(https://www.rabbitmq.com/docs/e2e, https://www.rabbitmq.com/docs/ae)
"""

from __future__ import annotations

from typing import Any

from kombu.entity import Exchange, Queue, binding

MARK = {"bundled": "yes"}
"""The headers of a single event that also left in a bundle. Headers exchanges ignore names like `x-...`."""


def plain(source: str) -> Exchange:
    """Return Nameko's own exchange for the events of a service."""
    return Exchange(f"{source}.events", type="topic", durable=True)


def bundles(source: str) -> Exchange:
    """Return the exchange for messages of many events."""
    return Exchange(f"{source}.events.bundles", type="topic", durable=True)


def _foreign(source: str) -> Exchange:
    return Exchange(f"{source}.events.foreign", type="topic", durable=True)


def bind(queue: Any, source: str, event_type: str) -> None:
    """Bind a queue to bundles and to foreign events of this type. Call it before the queue is declared."""
    queue.exchange, queue.routing_key = None, ""
    queue.bindings = {binding(exchange, event_type) for exchange in (bundles(source), _foreign(source))}


def declare(channel: Any, queue: Queue, source: str, event_type: str) -> None:
    """Declare the queue and all exchanges that lead to it."""
    others = Exchange(
        f"{source}.events.others",
        type="headers",
        durable=True,
        arguments={"alternate-exchange": _foreign(source).name},
    )
    had = Exchange(f"{source}.events.had", type="fanout", durable=True)
    for exchange in (plain(source), bundles(source), _foreign(source), others, had):
        exchange(channel).declare()
    others(channel).bind_to(plain(source), routing_key=event_type)
    had(channel).bind_to(others, arguments={"x-match": "all", **MARK})
    queue(channel).declare()
    # An older version bound the queue to the plain exchange, so the queue would get each event twice. Unbind
    # the plain exchange last, so that the queue is always bound to one of them.
    channel.queue_unbind(queue.name, plain(source).name, event_type)
