"""The judge: the customers' history against the services' books. A finding is a sentence about a broken
promise; none means that every invariant of the design holds for the orders of this row.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from services.orders import domain
from tests.chaos.books import TOLD, Books
from tests.chaos.broker import DEAD, RETRY, QueueState
from tests.chaos.history import Attempt, History, Items

MOST_SAID = 5
"""Of findings of one kind: the rest is counted."""


def findings(history: History, books: Books, put_in: Mapping[str, int]) -> list[str]:
    return [
        *_first(stock_is_conserved(books, put_in)),
        *_first(reservations_match_orders(books)),
        *_first(answers_hold(history, books)),
        *_first(nobody_else_ordered(history, books)),
        *_first(everything_has_ended(books)),
        *_first(customers_were_told_once(books)),
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
        status = books.orders[order_id].status if order_id in books.orders else "not there"
        if status != domain.CONFIRMED:
            yield f"order {order_id} is {status} but reserves {books.reserved[order_id]}"


def answers_hold(history: History, books: Books) -> Iterator[str]:
    """What a customer was told is what happened, and stays so."""
    for (user_id, key), attempts in history.by_key().items():
        created = [one for one in attempts if one.status == 201]
        if len({one.body for one in created}) > 1:
            yield f"key {key}: {len(created)} answers 201 that differ"
        if created:
            yield from _created_holds(created[0], user_id, books)
        elif any(one.code == "out-of-stock" for one in attempts):
            order = books.orders.get(order_id_of(user_id, key, attempts[0].items))
            if order is None or order.status != domain.REJECTED:
                yield f"key {key}: answered out-of-stock, but the order is {order and order.status}"
        for status in {one.status for one in attempts} & {500}:
            yield f"key {key}: answered {status}"


def _created_holds(answer: Attempt, user_id: str, books: Books) -> Iterator[str]:
    order = books.orders.get(answer.order_id)
    if order is None:
        yield f"key {answer.key}: answered 201 with order {answer.order_id}, which is not there"
        return
    if order.status not in (domain.CONFIRMED, domain.CANCELLED):
        yield f"order {order.order_id}: answered 201, but it is {order.status}"
    told = {line["product"]["id"]: line["quantity"] for line in json.loads(answer.body)["items"]}
    if not (told == dict(order.items) == dict(answer.items)) or order.user_id != user_id:
        yield f"order {order.order_id}: asked {dict(answer.items)}, told {told}, kept {dict(order.items)}"


def nobody_else_ordered(history: History, books: Books) -> Iterator[str]:
    """One order a key at most: its id follows from user and key, so that any other is one too many."""
    asked = {
        order_id_of(user_id, key, attempts[0].items) for (user_id, key), attempts in history.by_key().items()
    }
    for order_id in set(books.orders) - asked:
        yield f"order {order_id} ({dict(books.orders[order_id].items)}) was asked for by nobody"


def everything_has_ended(books: Books) -> Iterator[str]:
    for order_id in books.pending:
        if order := books.orders.get(order_id):
            yield f"order {order_id} is still pending after {order.attempts} attempts"
    for service, count in books.unsent_events.items():
        if count:
            yield f"{service}: {count} events are still in the outbox"
    if books.unsent_mails:
        yield f"{books.unsent_mails} mails are not sent"


def customers_were_told_once(books: Books) -> Iterator[str]:
    """One event for each confirmation and each cancellation, and one mail for each event."""
    confirmed, cancelled = (books.told[kind] for kind in TOLD)
    for order in books.orders.values():
        for happened, told, what in (
            (order.was_confirmed, confirmed, "confirmed"),
            (order.status == domain.CANCELLED, cancelled, "cancelled"),
        ):
            if told[order.order_id] != int(happened):
                yield f"order {order.order_id}: {told[order.order_id]} events {what}, not {int(happened)}"
    for event_id, (kind, order_id) in books.events.items():
        if books.mails[event_id] != 1:
            yield f"order {order_id}: {books.mails[event_id]} mails about {kind}, not 1"


def queues_are_well(queues: Iterable[QueueState], meant: Iterable[str] = ()) -> Iterator[str]:
    """`meant` are those in which a row has parked something on purpose."""
    for queue in queues:
        if queue.name.endswith(DEAD) and queue.messages and queue.name not in meant:
            yield f"{queue.messages} events are parked in {queue.name}"
        if queue.name.endswith(RETRY) and queue.messages:
            yield f"{queue.messages} events still wait in {queue.name}"
        if queue.is_consumed and not queue.consumers:
            yield f"nobody listens to {queue.name}"
        if queue.is_consumed and queue.messages:
            yield f"{queue.messages} messages wait in {queue.name}"


def order_id_of(user_id: str, key: str, items: Items) -> str:
    lines = [{"product_id": product, "quantity": quantity} for product, quantity in items]
    return domain.new_request(user_id, lines, key).order_id


def _first(sentences: Iterator[str]) -> list[str]:
    every = list(sentences)
    more = len(every) - MOST_SAID
    return [*every[:MOST_SAID], *([f"... and {more} more like this"] if more > 0 else [])]
