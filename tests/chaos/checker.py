"""Compares the customers' history with the services' books.

A finding is a sentence about a broken invariant. Without a finding, every invariant of the design holds for
the orders of the row.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from services.orders import domain
from tests.chaos.books import MAILED_EVENTS, Books
from tests.chaos.broker import DEAD, RETRY, QueueState
from tests.chaos.history import Attempt, History, Items

MAX_FINDINGS_SHOWN = 5
"""Findings of the same kind beyond this number are only counted."""


def findings(history: History, books: Books, put_in: Mapping[str, int]) -> list[str]:
    return [
        *_first(stock_is_conserved(books, put_in)),
        *_first(reservations_match_orders(books)),
        *_first(answers_hold(history, books)),
        *_first(every_order_was_requested(history, books)),
        *_first(everything_has_ended(books)),
        *_first(each_change_is_mailed_once(books)),
    ]


def stock_is_conserved(books: Books, put_in: Mapping[str, int]) -> Iterator[str]:
    held: Counter[str] = Counter()
    for lines in books.reserved.values():
        held.update(lines)
    for product, units in put_in.items():
        now = books.stock.get(product, 0)
        if now + held[product] != units:
            yield f"product {product}: {units} put in, but {now} on hand and {held[product]} reserved"
        if now < 0:
            yield f"product {product}: {now} on hand"


def reservations_match_orders(books: Books) -> Iterator[str]:
    for order_id, order in books.orders.items():
        if order.status == domain.CONFIRMED and order_id not in books.reserved:
            yield f"order {order_id} is confirmed but reserves nothing"
        if order.status == domain.CONFIRMED and books.reserved.get(order_id, order.items) != order.items:
            yield f"order {order_id} is for {order.items} but reserves {books.reserved[order_id]}"
    for order_id in books.reserved:
        status = books.orders[order_id].status if order_id in books.orders else "missing"
        if status != domain.CONFIRMED:
            yield f"order {order_id} is {status} but reserves {books.reserved[order_id]}"


def answers_hold(history: History, books: Books) -> Iterator[str]:
    """Check that the books agree with every final response."""
    for (user_id, key), attempts in history.by_key().items():
        created = [attempt for attempt in attempts if attempt.status == 201]
        if len({attempt.body for attempt in created}) > 1:
            yield f"key {key}: {len(created)} responses 201 that differ"
        if created:
            yield from _created_holds(created[0], user_id, books)
        elif any(attempt.code == "out-of-stock" for attempt in attempts):
            order = books.orders.get(order_id_of(user_id, key, attempts[0].items))
            if order is None or order.status != domain.REJECTED:
                yield f"key {key}: answered out-of-stock, but the order is {order and order.status}"
        for status in {attempt.status for attempt in attempts} & {500}:
            yield f"key {key}: answered {status}"


def _created_holds(answer: Attempt, user_id: str, books: Books) -> Iterator[str]:
    order = books.orders.get(answer.order_id)
    if order is None:
        yield f"key {answer.key}: answered 201 with order {answer.order_id}, which does not exist"
        return
    if order.status not in (domain.CONFIRMED, domain.CANCELLED):
        yield f"order {order.order_id}: answered 201, but it is {order.status}"
    answered = {line["product"]["id"]: line["quantity"] for line in json.loads(answer.body)["items"]}
    requested, stored = dict(answer.items), dict(order.items)
    if not (requested == answered == stored) or order.user_id != user_id:
        yield f"order {order.order_id}: requested {requested}, answered {answered}, stored {stored}"


def every_order_was_requested(history: History, books: Books) -> Iterator[str]:
    """Check that each order was requested: its id follows from user and key, so a second order differs."""
    requested = {
        order_id_of(user_id, key, attempts[0].items) for (user_id, key), attempts in history.by_key().items()
    }
    for order_id in set(books.orders) - requested:
        yield f"order {order_id} ({dict(books.orders[order_id].items)}) was never requested"


def everything_has_ended(books: Books) -> Iterator[str]:
    for order_id in books.pending:
        if order := books.orders.get(order_id):
            yield f"order {order_id} is still pending after {order.attempts} attempts"
    for service, count in books.unsent_events.items():
        if count:
            yield f"{service}: {count} events are still in the outbox"
    if books.unsent_mails:
        yield f"{books.unsent_mails} mails are not sent"


def each_change_is_mailed_once(books: Books) -> Iterator[str]:
    """Check that each confirmation and cancellation has one event, and each of these events one mail."""
    confirmed, cancelled = (books.mailed_events[kind] for kind in MAILED_EVENTS)
    for order in books.orders.values():
        for happened, events, change in (
            (order.was_confirmed, confirmed, "confirmed"),
            (order.status == domain.CANCELLED, cancelled, "cancelled"),
        ):
            if events[order.order_id] != int(happened):
                yield f"order {order.order_id}: {events[order.order_id]} events {change}, not {int(happened)}"
    for event_id, (kind, order_id) in books.events.items():
        if books.mails[event_id] != 1:
            yield f"order {order_id}: {books.mails[event_id]} mails about {kind}, not 1"


def queues_are_empty(queues: Iterable[QueueState], parked_on_purpose: Iterable[str] = ()) -> Iterator[str]:
    """Check that no message waits and no queue lacks its consumer.

    `parked_on_purpose` names the queues in which the row itself has parked messages.
    """
    for queue in queues:
        if queue.name.endswith(DEAD) and queue.messages and queue.name not in parked_on_purpose:
            yield f"{queue.messages} events are parked in {queue.name}"
        if queue.name.endswith(RETRY) and queue.messages:
            yield f"{queue.messages} events still wait in {queue.name}"
        if queue.is_consumed and not queue.consumers:
            yield f"{queue.name} has no consumer"
        if queue.is_consumed and queue.messages:
            yield f"{queue.messages} messages wait in {queue.name}"


def order_id_of(user_id: str, key: str, items: Items) -> str:
    lines = [{"product_id": product, "quantity": quantity} for product, quantity in items]
    return domain.new_request(user_id, lines, key).order_id


def _first(sentences: Iterator[str]) -> list[str]:
    all_sentences = list(sentences)
    more = len(all_sentences) - MAX_FINDINGS_SHOWN
    return [*all_sentences[:MAX_FINDINGS_SHOWN], *([f"... and {more} more like this"] if more > 0 else [])]
