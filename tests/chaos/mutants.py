"""Negative controls: small sabotages of the code. A row proves nothing if it passes with its mutant.

A mutant changes the mesh or a service inside a service's process, before the service is built. It names
what it replaces, as `module:attribute`. Its function gets the present values in that order, and returns
their replacements. The function looks up every other name at once, not later in a closure. So
tests/unit/chaos/test_mutants.py finds a renamed name without a mesh.

`apply` runs the mutants that are named in the folder of the failpoints.
"""

from __future__ import annotations

import importlib
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

DIVERTED = "chaos-diverted"

_MUTANTS: dict[str, Mutant] = {}
_LEAKED: list[bytes] = []


@dataclass(frozen=True, slots=True)
class Mutant:
    """`replaces` names attributes, such as `nameko_mesh.outbox.relay:OutboxRelay._publish`."""

    name: str
    meaning: str
    replaces: tuple[str, ...]
    make: Callable[..., Sequence[Any]]

    @property
    def service(self) -> str | None:
        """The service whose code it changes; None when it changes the mesh in every service."""
        owners = {
            target.split(".")[1] if target.startswith("services.") else None for target in self.replaces
        }
        (owner,) = owners
        return owner

    def apply(self) -> None:
        """Replace the attributes.

        Raises ImportError or AttributeError when a name is gone, because a mutant that changes nothing
        would let its row pass.
        """
        places = [place_of(target) for target in self.replaces]
        replacements = self.make(*(getattr(owner, name) for owner, name in places))
        for (owner, name), replacement in zip(places, replacements, strict=True):
            setattr(owner, name, replacement)


def apply(names: Iterable[str], service: str) -> None:
    """Sabotage this process, which runs `service`. Mutants of other services are left out."""
    for name in names:
        chosen = _MUTANTS[name]
        if chosen.service in (None, service):
            chosen.apply()


def every_mutant() -> list[Mutant]:
    return list(_MUTANTS.values())


def meanings() -> dict[str, str]:
    """Return the effect of each mutant, by its name."""
    return {name: each.meaning for name, each in _MUTANTS.items()}


def place_of(target: str) -> tuple[Any, str]:
    """Return the module or class that holds the attribute, and the attribute's name."""
    module, _, path = target.partition(":")
    *owners, name = path.split(".")
    owner: Any = importlib.import_module(module)
    for part in owners:
        owner = getattr(owner, part)
    return owner, name


def mutant(*replaces: str) -> Callable[[Callable[..., Sequence[Any]]], Callable[..., Sequence[Any]]]:
    """Register a function as the mutant of its name. Its docstring is the meaning in the report."""

    def register(make: Callable[..., Sequence[Any]]) -> Callable[..., Sequence[Any]]:
        name = make.__name__.replace("_", "-")
        _MUTANTS[name] = Mutant(name, (make.__doc__ or "").strip(), replaces, make)
        return make

    return register


@mutant("services.products.reservations:reserve", "services.products.reservations:_taken")
def stock_check_off(reserve: Any, taken: Any) -> Sequence[Any]:
    """products reserves more than the stock on hand"""
    from services.rules import MAX_QUANTITY

    def reserve_anyway(products: Any, request: Any) -> Any:
        plenty = {key: replace(product, stock=MAX_QUANTITY) for key, product in products.items()}
        return reserve(plenty, request)

    return reserve_anyway, lambda product, quantity: taken(product, min(quantity, product.stock))


@mutant("services.orders.domain:_order_id")
def no_unique_key(_: Any) -> Sequence[Any]:
    """an order's id no longer comes from its user and idempotency key"""
    return [lambda *_: str(uuid.uuid4())]


@mutant(
    "nameko_mesh.events.handler:EventHandler.handle_message",
    "nameko_mesh.events.handler:EventHandler.handle_message_processed",
)
def ack_before_handling(handle: Any, _: Any) -> Sequence[Any]:
    """an event is acknowledged before its handler runs, as with a broker's auto-ack"""

    def acked_first(self: Any, body: Any, message: Any) -> None:
        self.consumer.ack_message(message)
        handle(self, body, message)

    return acked_first, lambda *_, **__: None


@mutant("nameko_mesh.amqp.consumer:DrainingConsumer.consume")
def no_drain(_: Any) -> Sequence[Any]:
    """on SIGTERM the consumer closes at once, as Nameko's own does, while workers still run"""
    from nameko.amqp.consume import Consumer

    return [Consumer.consume]


@mutant("nameko_mesh.outbox.relay:OutboxRelay._publish", "nameko_mesh.outbox.relay:OutboxRelay._settle")
def sent_before_published(publish: Any, settle: Any) -> Sequence[Any]:
    """the relay marks events as sent, and publishes them a moment later"""
    import eventlet

    from nameko_mesh.amqp.confirmed_publisher import PublishResult
    from nameko_mesh.outbox import OutboxRelay
    from nameko_mesh.outbox.messages import messages_of

    confirmed, mark_sent = PublishResult.CONFIRMED, OutboxRelay._mark_sent

    def published_last(self: Any, plan: Any) -> None:
        settle(self, plan)
        mark_sent(self)
        eventlet.sleep(1.5)  # without a pause, the broker would have to die within a millisecond
        publish(self, messages_of(plan.rows))

    return lambda self, messages: [confirmed] * len(messages), published_last


@mutant("nameko_mesh.sql.postgresql:wait_in_hub")
def blocking_driver(_: Any) -> Sequence[Any]:
    """psycopg2 blocks the whole process while it waits for PostgreSQL"""
    return [None]


@mutant("nameko_mesh.rpc.entrypoint:validated_context", "nameko_mesh.events.handler:validated_context")
def headers_trusted(*_: Any) -> Sequence[Any]:
    """the headers of a message reach Nameko unchecked"""
    return [lambda headers: headers] * 2


@mutant("services.orders.store:OrdersTransaction.learn")
def newest_unchecked(learn: Any) -> Sequence[Any]:
    """an event about a user replaces a newer copy"""
    from services.orders.store import as_row, customers

    by_id = customers.c.id

    def learn_anything(self: Any, customer: Any) -> None:
        learn(self, customer)
        this = customers.update().where(by_id == customer.id)
        self.connection.execute(this.values(**as_row(customer)))

    return [learn_anything]


@mutant("services.orders.recovery:sweep")
def no_sweeper(_: Any) -> Sequence[Any]:
    """orders never retries a pending order"""
    return [lambda *_: 0]


@mutant("services.orders.recovery:abandoned")
def no_completion(_: Any) -> Sequence[Any]:
    """orders ignores the events that tell of reserved stock"""
    return [lambda *_: set()]


@mutant("services.products.store:ProductsTransaction.add_reservations")
def no_tombstone(add: Any) -> Sequence[Any]:
    """a cancel that overtakes its reservation leaves no trace"""
    from services.products.store import RELEASED

    def add_no_tombstone(self: Any, decisions: Any) -> None:
        add(self, [decision for decision in decisions if decision.status != RELEASED])

    return [add_no_tombstone]


@mutant(
    "services.products.store:ProductsTransaction.products", "services.products.store:ProductsTransaction.save"
)
def no_lock(products: Any, _: Any) -> Sequence[Any]:
    """products reads stock without a lock, and overwrites rows that have changed since"""
    from nameko_mesh.sql.write_batch import WriteBatch
    from services.products.store import as_row
    from services.products.store import products as table

    update = WriteBatch.update

    def save_anyway(self: Any, changed: Any, before: Any) -> None:
        rows = [{**as_row(product), "expected": product.id} for product in changed]
        update(self.writes, table, rows, ("stock", "version"), if_still="id")

    return lambda self, ids, *, lock=False: products(self, ids), save_anyway


@mutant("nameko_mesh.runtime.presence:Presence._answer")
def always_well(_: Any) -> Sequence[Any]:
    """a service reports itself healthy without a check"""

    def answer(self: Any, environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "application/json")])
        return [b"{}"]

    return [answer]


@mutant("nameko_mesh.rpc.responder:Responder.send_response")
def leaks(send: Any) -> Sequence[Any]:
    """every reply leaks two megabytes"""

    def leaking(self: Any, result: Any, exc_info: Any) -> Any:
        _LEAKED.append(bytes(bytearray(b"x") * 2_000_000))
        return send(self, result, exc_info)

    return [leaking]


@mutant("nameko_mesh.outbox.relay:OutboxRelay._publish")
def diverted(_: Any) -> Sequence[Any]:
    """a tool of R8, not a control: events go to a queue of the harness, which delivers them in its own way"""
    import orjson

    from nameko_mesh.amqp.confirmed_publisher import ConfirmedPublisher, OutgoingMessage, PublishResult
    from nameko_mesh.outbox.publisher import CONFIRM_TIMEOUT_SECONDS

    publisher = ConfirmedPublisher()
    confirmed, rejected = PublishResult.CONFIRMED, PublishResult.REJECTED

    def divert(self: Any, messages: Any) -> list[PublishResult]:
        outgoing = [
            OutgoingMessage(event["event_id"], "", DIVERTED, orjson.dumps(event), mandatory=True)
            for message in messages
            for row in message.rows
            for event in row.events
        ]
        results = set(publisher.publish(outgoing, CONFIRM_TIMEOUT_SECONDS))
        return [confirmed if results == {confirmed} else rejected] * len(messages)

    return [divert]
