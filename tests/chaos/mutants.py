"""The negative controls: sabotages of one line each. A row that passes with its own proves nothing.

A mutant is a function that breaks the mesh or a service from inside a service's process, before the
service is built. `apply` runs those that are named in the folder of the failpoints.
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from services.rules import MAX_QUANTITY

DIVERTED = "chaos-diverted"

_MUTANTS: dict[str, Callable[[], None]] = {}
_LEAKED: list[bytes] = []


def apply(names: Iterable[str]) -> None:
    for name in names:
        _MUTANTS[name]()


def meanings() -> dict[str, str]:
    """What each mutant does, by its name."""
    return {name: (make.__doc__ or "").strip() for name, make in _MUTANTS.items()}


def mutant(make: Callable[[], None]) -> Callable[[], None]:
    _MUTANTS[make.__name__.replace("_", "-")] = make
    return make


def _module(name: str) -> Any:
    """A module that this process has loaded already; a service lacks the code of the others."""
    return sys.modules.get(name)


def _put(owner: Any, name: str, instead: Any) -> None:
    """In place of what is there. Raises AttributeError when nothing is: a mutant that changes nothing would
    let its row pass."""
    getattr(owner, name)
    setattr(owner, name, instead)


@mutant
def stock_check_off() -> None:
    """products reserves what is not there"""
    if reservations := _module("services.products.reservations"):
        reserve, taken = reservations.reserve, reservations._taken

        def plenty_in_stock(products: Any, request: Any) -> Any:
            plenty = {key: replace(product, stock=MAX_QUANTITY) for key, product in products.items()}
            return reserve(plenty, request)

        _put(reservations, "reserve", plenty_in_stock)
        _put(reservations, "_taken", lambda product, n: taken(product, min(n, product.stock)))


@mutant
def no_unique_key() -> None:
    """an order's id no longer comes from its user and idempotency key"""
    if domain := _module("services.orders.domain"):
        _put(domain, "_order_id", lambda *_: str(uuid.uuid4()))


@mutant
def ack_before_handling() -> None:
    """an event is acknowledged before its handler has run, as brokers do with auto-ack"""
    from nameko_mesh.events.handler import EventHandler

    handle = EventHandler.handle_message

    def acked_first(self: Any, body: Any, message: Any) -> None:
        self.consumer.ack_message(message)
        handle(self, body, message)

    _put(EventHandler, "handle_message", acked_first)
    _put(EventHandler, "handle_message_processed", lambda *_, **__: None)


@mutant
def no_drain() -> None:
    """on SIGTERM the consumer closes at once, as Nameko's own does, while workers run on"""
    from nameko.amqp.consume import Consumer

    from nameko_mesh.amqp.consumer import DrainingConsumer

    _put(DrainingConsumer, "consume", Consumer.consume)


@mutant
def sent_before_published() -> None:
    """the relay marks events as sent, and publishes them a moment later"""
    import eventlet

    from nameko_mesh.amqp.confirmed_publisher import PublishResult
    from nameko_mesh.outbox import OutboxRelay
    from nameko_mesh.outbox.messages import messages_of

    settle, publish = OutboxRelay._settle, OutboxRelay._publish

    def published_last(self: Any, plan: Any) -> None:
        settle(self, plan)
        self._mark_sent()
        eventlet.sleep(1.5)  # or a broker would have to die within a millisecond to be noticed
        publish(self, messages_of(plan.rows))

    _put(OutboxRelay, "_publish", lambda self, messages: [PublishResult.CONFIRMED] * len(messages))
    _put(OutboxRelay, "_settle", published_last)


@mutant
def blocking_driver() -> None:
    """psycopg2 waits for PostgreSQL without letting the rest of the process run"""
    from nameko_mesh.sql import postgresql

    _put(postgresql, "wait_in_hub", None)


@mutant
def headers_trusted() -> None:
    """the headers of a message reach Nameko unchecked"""
    from nameko_mesh.events import handler
    from nameko_mesh.rpc import entrypoint

    _put(entrypoint, "validated_context", lambda headers: headers)
    _put(handler, "validated_context", lambda headers: headers)


@mutant
def newest_unchecked() -> None:
    """an event about a user is applied even when a newer one was"""
    if store := _module("services.orders.store"):
        learn = store.OrdersTransaction.learn

        def learn_anything(self: Any, customer: Any) -> None:
            learn(self, customer)
            this = store.customers.update().where(store.customers.c.id == customer.id)
            self.connection.execute(this.values(**store.as_row(customer)))

        store.OrdersTransaction.learn = learn_anything


@mutant
def no_sweeper() -> None:
    """nobody drives on an order that was left pending"""
    if recovery := _module("services.orders.recovery"):
        _put(recovery, "sweep", lambda *_: 0)


@mutant
def no_completion() -> None:
    """orders does not look at what products tells of reserved stock"""
    if recovery := _module("services.orders.recovery"):
        _put(recovery, "abandoned", lambda *_: set())


@mutant
def no_tombstone() -> None:
    """a cancel that overtakes its reservation leaves no trace"""
    if store := _module("services.products.store"):
        add = store.ProductsTransaction.add_reservations

        def add_no_tombstone(self: Any, decisions: Any) -> None:
            add(self, [decision for decision in decisions if decision.status != store.RELEASED])

        _put(store.ProductsTransaction, "add_reservations", add_no_tombstone)


@mutant
def no_lock() -> None:
    """products reads the stock without locking its rows, and writes it whatever has become of them"""
    if store := _module("services.products.store"):
        products = store.ProductsTransaction.products
        _put(store.ProductsTransaction, "products", lambda self, ids, *, lock=False: products(self, ids))

        def save_anyway(self: Any, changed: Any, before: Any) -> None:
            rows = [{**store.as_row(one), "expected": one.id} for one in changed]
            self.writes.update(store.products, rows, ("stock", "version"), if_still="id")

        _put(store.ProductsTransaction, "save", save_anyway)


@mutant
def always_well() -> None:
    """a service says that it is well without looking"""
    from nameko_mesh.runtime import Presence

    def answer(self: Any, environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "application/json")])
        return [b"{}"]

    _put(Presence, "_answer", answer)


@mutant
def leaks() -> None:
    """every message leaves two megabytes behind"""
    from nameko_mesh.rpc.responder import Responder

    send = Responder.send_response

    def leaking(self: Any, result: Any, exc_info: Any) -> Any:
        _LEAKED.append(bytes(bytearray(b"x") * 2_000_000))
        return send(self, result, exc_info)

    _put(Responder, "send_response", leaking)


@mutant
def diverted() -> None:
    """no control but a tool of R8: events go to a queue of the harness, which delivers them its own way"""
    import orjson

    from nameko_mesh.amqp.confirmed_publisher import ConfirmedPublisher, OutgoingMessage, PublishResult
    from nameko_mesh.outbox import OutboxRelay
    from nameko_mesh.outbox.publisher import CONFIRM_TIMEOUT_SECONDS

    publisher = ConfirmedPublisher()

    def divert(self: Any, messages: Any) -> list[PublishResult]:
        parcels = [
            OutgoingMessage(event["event_id"], "", DIVERTED, orjson.dumps(event), mandatory=True)
            for one in messages
            for row in one.rows
            for event in row.events
        ]
        fates = set(publisher.publish(parcels, CONFIRM_TIMEOUT_SECONDS))
        return [
            PublishResult.CONFIRMED if fates == {PublishResult.CONFIRMED} else PublishResult.REJECTED
        ] * len(messages)

    _put(OutboxRelay, "_publish", divert)
