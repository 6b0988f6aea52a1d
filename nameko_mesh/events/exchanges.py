"""The exchanges between a relay and the handlers of its events.

    <source>.events            as Nameko has it: each event is a message, routed by its type
    <source>.events.bundles    the same events for handlers of the mesh, many in a message

A handler of the mesh also takes what others publish to `<source>.events`, such as Nameko's own dispatcher. It
must not take the single events of a relay, because it gets them in a bundle. Nor may its queue count as a
listener to single events, because the relay publishes those only while somebody listens. So the relay marks
its single events, and a queue of the mesh is bound behind

    <source>.events -> .others -> .had         marked events end here, because no queue is bound: if the event
                                               was mandatory, the relay learns that nobody listens
                              `-> .foreign     unmarked events, by the alternate exchange of .others

(https://www.rabbitmq.com/docs/e2e, https://www.rabbitmq.com/docs/ae)
"""

from __future__ import annotations

from typing import Any

from kombu.entity import Exchange, Queue, binding

MARK = {"bundled": "yes"}
"""The headers of a single event that also left in a bundle. Headers exchanges ignore names that begin with
x-."""


def plain(source: str) -> Exchange:
    return Exchange(f"{source}.events", type="topic", durable=True)


def bundles(source: str) -> Exchange:
    return Exchange(f"{source}.events.bundles", type="topic", durable=True)


def _foreign(source: str) -> Exchange:
    return Exchange(f"{source}.events.foreign", type="topic", durable=True)


def bind(queue: Any, source: str, kind: str) -> None:
    """Bind a queue, before its declaration, to bundles and to foreign events of this type."""
    queue.exchange, queue.routing_key = None, ""
    queue.bindings = {binding(exchange, kind) for exchange in (bundles(source), _foreign(source))}


def declare(channel: Any, queue: Queue, source: str, kind: str) -> None:
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
    others(channel).bind_to(plain(source), routing_key=kind)
    had(channel).bind_to(others, arguments={"x-match": "all", **MARK})
    queue(channel).declare()
    # An older version bound the queue to the plain exchange, and it would get each event twice. Unbind it
    # last: at no moment is the queue bound to neither.
    channel.queue_unbind(queue.name, plain(source).name, kind)
