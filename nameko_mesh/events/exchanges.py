"""The ways from a relay to the handlers of its events.

    <source>.events            as Nameko has it: each event a message, routed by its type
    <source>.events.bundles    the same events for handlers of the mesh, many in a message

A handler of the mesh also takes what others publish to `<source>.events`: Nameko's own dispatcher, a
person in a shell. But what a relay publishes there it has already, in a bundle, and it must not be the
reason why a relay publishes there at all. So the relay marks its messages, and a handler is bound behind

    <source>.events -> .others -> .had         what is marked ends here: no queue is bound, and a relay
                                               whose message was mandatory learns that nobody takes it
                              `-> .foreign     the rest, as the alternate exchange of .others

(https://www.rabbitmq.com/docs/e2e, https://www.rabbitmq.com/docs/ae)
"""

from __future__ import annotations

from typing import Any

from kombu.entity import Exchange, Queue, binding

MARK = {"bundled": "yes"}
"""The headers of an event that has left in a bundle too. A name in x- would not be looked at."""


def plain(source: str) -> Exchange:
    return Exchange(f"{source}.events", type="topic", durable=True)


def bundles(source: str) -> Exchange:
    return Exchange(f"{source}.events.bundles", type="topic", durable=True)


def _foreign(source: str) -> Exchange:
    return Exchange(f"{source}.events.foreign", type="topic", durable=True)


def lead(queue: Any, source: str, kind: str) -> None:
    """Bind a queue, not declared yet, to bundles and to foreign events of this type."""
    queue.exchange, queue.routing_key = None, ""
    queue.bindings = {binding(exchange, kind) for exchange in (bundles(source), _foreign(source))}


def declare(channel: Any, queue: Queue, source: str, kind: str) -> None:
    """That queue and all ways to it."""
    others = Exchange(
        f"{source}.events.others",
        type="headers",
        durable=True,
        arguments={"alternate-exchange": _foreign(source).name},
    )
    had = Exchange(f"{source}.events.had", type="fanout", durable=True)
    for exchange in (plain(source), bundles(source), _foreign(source), others, had):
        exchange(channel).declare()
    others(channel).bind_to(plain(source), routing_key=kind)
    had(channel).bind_to(others, arguments={"x-match": "all", **MARK})
    queue(channel).declare()
    # An older version was bound to the plain events, and would still get them beside the bundles. Only now:
    # at no moment is the queue bound to neither.
    channel.queue_unbind(queue.name, plain(source).name, kind)
