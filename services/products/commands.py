"""The use cases of products: each function is one transaction, and the batch is the normal case."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from nameko_mesh.outcome import Outcome
from nameko_mesh.sql import StaleWrite, as_row, optimistically, retry_on_conflict
from services.products import domain, reservations, wire
from services.products.domain import Product
from services.products.reservations import Reservation, ReservationRequest
from services.products.store import ProductsStore, ProductsTransaction
from services.rules import checked_id

STREAM_PAGE_SIZE = 100


def get_products(store: ProductsStore, product_ids: list[Any]) -> list[Outcome[Product]]:
    """Return an outcome for each id, in the order of the ids."""
    checked = Outcome.of_each(partial(checked_id, field="product_id"), product_ids)
    with store.transaction(read_only=True) as tx:
        products = tx.products(outcome.unwrap() for outcome in checked if not outcome.error)
    return [outcome.then(partial(domain.existing, products)) for outcome in checked]


def list_products(store: ProductsStore, after: str, limit: int, text: str | None) -> list[Product]:
    """Return up to `limit` products in id order, after this id, with the text in their name or id."""
    domain.checked_query(text)
    with store.transaction(read_only=True) as tx:
        return tx.page(after, limit, text)


def all_products(store: ProductsStore, text: str | None = None) -> Iterator[Product]:
    """Yield every product in id order, with a short transaction for each page."""
    after = ""
    while products := list_products(store, after, STREAM_PAGE_SIZE, text):
        yield from products
        after = products[-1].id


def watched_products(store: ProductsStore, product_ids: list[str]) -> Iterator[Product]:
    """Return these products, or all products if there are no ids. Raises UnknownProduct."""
    if not product_ids:
        return all_products(store)
    return iter([outcome.unwrap() for outcome in get_products(store, product_ids)])


@retry_on_conflict
def create_product(store: ProductsStore, command_id: str | None, **fields: Any) -> Product:
    """Create a product, with a random id unless `product_id` is given. Raises Invalid or ProductExists."""
    product_id = uuid.uuid4().hex if fields["product_id"] is None else fields["product_id"]
    product = domain.new_product(**{**fields, "product_id": product_id})

    def create(tx: ProductsTransaction) -> Product:
        if tx.products([product.id]):
            raise domain.ProductExists(f"there is a product {product.id} already", "id")
        tx.add(product)
        tx.publish([wire.product_created(product)])
        return product

    return _once(store, command_id, ("create_product", *sorted(fields.items())), create)


@retry_on_conflict
def update_product(
    store: ProductsStore, command_id: str | None, product_id: str, name: str | None, price_minor: int | None
) -> Product:
    """Change the name or the price. Raises Invalid or UnknownProduct."""
    checked_id(product_id, "product_id")

    def update(tx: ProductsTransaction) -> Product:
        before = tx.product(product_id, lock=True)
        product = domain.changed(before, name=name, price_minor=price_minor)
        tx.save([product], {product_id: before})
        tx.publish([wire.product_updated(product)])
        return product

    return _once(store, command_id, ("update_product", product_id, name, price_minor), update)


@retry_on_conflict
def restock(store: ProductsStore, command_id: str | None, product_id: str, quantity: int) -> Product:
    """Add to the stock. Raises Invalid or UnknownProduct."""
    checked_id(product_id, "product_id")

    def add(tx: ProductsTransaction) -> Product:
        before = tx.product(product_id, lock=True)
        product = domain.restocked(before, quantity)
        tx.save([product], {product_id: before})
        tx.publish(wire.stock_changes([product]))
        return product

    return _once(store, command_id, ("restock", product_id, quantity), add)


def _once(
    store: ProductsStore,
    command_id: str | None,
    command: tuple[Any, ...],
    effect: Callable[[ProductsTransaction], Product],
) -> Product:
    with store.transaction() as tx:
        return Product(**tx.once(command_id, command, lambda: as_row(effect(tx))))


def reserve_each(
    store: ProductsStore, requests: Sequence[Outcome[ReservationRequest]]
) -> list[Outcome[Reservation]]:
    """Reserve for the valid requests of a batch. Returns an outcome for each request, in their order."""
    valid = [request.unwrap() for request in requests if request.error is None]
    decisions = iter(reserve_stocks(store, valid) if valid else ())
    return [
        Outcome(next(decisions)) if request.error is None else Outcome(error=request.error)
        for request in requests
    ]


def reserve_stocks(store: ProductsStore, requests: Sequence[ReservationRequest]) -> list[Reservation]:
    """Reserve for many orders in one transaction. A repeated order keeps its first answer."""
    return optimistically(lambda: _reserve_cached(store, requests), lambda: _reserve_locked(store, requests))


def _reserve_cached(store: ProductsStore, requests: Sequence[ReservationRequest]) -> list[Reservation]:
    """Decide by the cached products, and write in one statement.

    Raises StaleWrite when a product differs from its cached copy. Raises it for a refusal too, because a copy
    that is stale may be the reason. Raises IntegrityError when an order has been decided before.
    """
    by_order = {request.order_id: request for request in requests}
    if not store.cache.is_trusted or len(by_order) < len(requests):
        raise StaleWrite
    with store.cache.locked():
        before = _cached_products(store, requests)
        decisions, changed = reservations.reserve_all(before, list(by_order.values()))
        if any(decision.refusal for decision in decisions):
            raise StaleWrite
        try:
            with store.transaction() as tx:
                tx.add_reservations(decisions)
                tx.save(changed.values(), before)
                tx.publish(wire.stock_changes(changed.values()))
                tx.publish(wire.stocks_reserved(by_order, decisions))
        except StaleWrite:
            store.cache.distrust()
            raise
        store.cache.put(changed.values())
    decided = {decision.order_id: decision for decision in decisions}
    return [decided[request.order_id] for request in requests]


def _cached_products(store: ProductsStore, requests: Sequence[ReservationRequest]) -> dict[str, Product]:
    """Return the products of the requests. Products that are not cached are read."""
    wanted = {product_id for request in requests for product_id in request.product_ids}
    products = store.cache.get(wanted)
    if missing := wanted - products.keys():
        with store.transaction(read_only=True) as tx:
            products |= tx.products(missing)
    return products


@retry_on_conflict
def _reserve_locked(store: ProductsStore, requests: Sequence[ReservationRequest]) -> list[Reservation]:
    """Lock the products, read the decisions made before, and decide about the other requests."""
    by_order: dict[str, ReservationRequest] = {}
    for request in requests:
        by_order.setdefault(request.order_id, request)
    with store.transaction() as tx:
        products = tx.products(
            {product_id for request in requests for product_id in request.product_ids}, lock=True
        )
        decided = tx.reservations(by_order)
        new = [request for order_id, request in by_order.items() if order_id not in decided]
        decisions, changed = reservations.reserve_all(products, new)
        tx.add_reservations(decisions)
        tx.save(changed.values(), products)
        tx.publish(wire.stock_changes(changed.values()))
        tx.publish(wire.stocks_reserved(by_order, decisions))
    store.cache.put((products | changed).values())
    decided |= {decision.order_id: decision for decision in decisions}
    return [reservations.repeated(request, decided[request.order_id]) for request in requests]


def release_each(store: ProductsStore, order_ids: list[Any]) -> list[Outcome[str]]:
    """Give back the stock of the orders with a valid id. Returns an outcome for each id, in their order."""
    checked = Outcome.of_each(partial(checked_id, field="order_id"), order_ids)
    release_stocks(store, [outcome.unwrap() for outcome in checked if outcome.error is None])
    return checked


@retry_on_conflict
def release_stocks(
    store: ProductsStore, order_ids: Sequence[str], cause: tuple[str, str] | None = None
) -> None:
    """Give back the stock of orders. For an order without a reservation, refuse any later reservation.

    `cause` is the (consumer, event id) of the event that leads to the release. The event takes effect once.
    """
    with store.transaction() as tx:
        if cause and not tx.is_new(*cause):
            return
        # Read the lines, lock the products, then lock the reservations: reserve_stocks takes its locks in
        # the same order.
        expected = tx.reservations(order_ids)
        product_ids = {line.product_id for reservation in expected.values() for line in reservation.lines}
        products = tx.products(product_ids, lock=True)
        current = tx.reservations(order_ids, lock=True)
        released = {order_id: current[order_id] for order_id in current if order_id in expected}
        changed = reservations.release_all(products, list(released.values()))
        tx.save(changed.values(), products)
        tx.mark_released(list(released))
        unknown = [order_id for order_id in dict.fromkeys(order_ids) if order_id not in expected]
        tx.add_reservations(
            [Reservation(order_id=order_id, status=reservations.RELEASED) for order_id in unknown]
        )
        tx.publish(wire.stock_changes(changed.values()))
