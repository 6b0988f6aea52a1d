"""What can be done with products: each function is one transaction, and a batch is the normal case."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from nameko_mesh.outcome import Outcome
from nameko_mesh.sql.retry import optimistically, retry_on_conflict
from nameko_mesh.sql.tables import as_row
from nameko_mesh.sql.write_batch import StaleWrite
from services.products import domain
from services.products.domain import Order, Product, Reservation, ReservedLine
from services.products.events import (
    ProductCreated,
    ProductUpdated,
    ReservedItem,
    ReservedOrder,
    StockChanged,
    StocksReserved,
)
from services.products.store import ProductsStore, ProductsTransaction
from services.rules import checked_id

STREAM_PAGE = 100


def get_products(store: ProductsStore, product_ids: list[Any]) -> list[Outcome[Product]]:
    """An outcome for each id, in the order asked for."""
    checked = Outcome.of_each(partial(checked_id, field="product_id"), product_ids)
    with store.transaction(read_only=True) as tx:
        found = tx.products(one.unwrap() for one in checked if not one.error)
    return [one.then(partial(domain.existing, found)) for one in checked]


def list_products(store: ProductsStore, after: str, limit: int, text: str | None) -> list[Product]:
    """Up to `limit` products in id order, after this id, with the text in their name or id."""
    domain.checked_text(text)
    with store.transaction(read_only=True) as tx:
        return tx.page(after, limit, text)


@retry_on_conflict
def create_product(store: ProductsStore, command_id: str | None, **fields: Any) -> Product:
    product_id = uuid.uuid4().hex if fields["product_id"] is None else fields["product_id"]
    product = domain.new_product(**{**fields, "product_id": product_id})

    def create(tx: ProductsTransaction) -> Product:
        if tx.products([product.id]):
            raise domain.ProductExists(f"there is a product {product.id} already", "id")
        tx.add(product)
        created = ProductCreated(
            product_id=product.id,
            name=product.name,
            price_minor=product.price_minor,
            currency=product.currency,
            stock=product.stock,
        )
        tx.publish([(created, product.version)])
        return product

    return _once(store, command_id, ("create_product", *sorted(fields.items())), create)


@retry_on_conflict
def update_product(
    store: ProductsStore, command_id: str | None, product_id: str, name: str | None, price_minor: int | None
) -> Product:
    checked_id(product_id, "product_id")

    def update(tx: ProductsTransaction) -> Product:
        before = tx.product(product_id, lock=True)
        product = domain.changed(before, name=name, price_minor=price_minor)
        tx.save([product], {product_id: before})
        updated = ProductUpdated(
            product_id=product.id,
            name=product.name,
            price_minor=product.price_minor,
            currency=product.currency,
        )
        tx.publish([(updated, product.version)])
        return product

    return _once(store, command_id, ("update_product", product_id, name, price_minor), update)


@retry_on_conflict
def restock(store: ProductsStore, command_id: str | None, product_id: str, quantity: int) -> Product:
    checked_id(product_id, "product_id")

    def add(tx: ProductsTransaction) -> Product:
        before = tx.product(product_id, lock=True)
        product = domain.restocked(before, quantity)
        tx.save([product], {product_id: before})
        tx.publish(_stock_changes([product]))
        return product

    return _once(store, command_id, ("restock", product_id, quantity), add)


def reserve_stocks(store: ProductsStore, orders: Sequence[Order]) -> list[Reservation]:
    """Reserve for many orders in one transaction. A repeated order keeps its first answer."""
    return optimistically(lambda: _reserve_by_memory(store, orders), lambda: _reserve(store, orders))


def _reserve_by_memory(store: ProductsStore, orders: Sequence[Order]) -> list[Reservation]:
    """In one statement. Raises StaleWrite when the products are not as they are remembered, or an order
    can't be had, for nobody is refused by hearsay; IntegrityError when one is not new."""
    orders_by_id = {order.order_id: order for order in orders}
    if not store.memory.is_good or len(orders_by_id) < len(orders):
        raise StaleWrite
    wanted = {one for order in orders for one in order.product_ids}
    with store.memory.turn():
        before = store.memory.recall(wanted)
        if unknown := wanted - before.keys():
            with store.transaction(read_only=True) as tx:
                before |= tx.products(unknown)
        decisions, changed = domain.reserve_all(before, list(orders_by_id.values()))
        if any(decision.refusal for decision in decisions):
            raise StaleWrite
        try:
            with store.transaction() as tx:
                tx.decide(decisions)
                tx.save(changed.values(), before)
                tx.publish(_stock_changes(changed.values()))
                tx.publish(_reserved(orders_by_id, decisions))
        except StaleWrite:
            store.memory.was_wrong()
            raise
        store.memory.remember(changed.values())
    decided = {decision.order_id: decision for decision in decisions}
    return [decided[order.order_id] for order in orders]


@retry_on_conflict
def _reserve(store: ProductsStore, orders: Sequence[Order]) -> list[Reservation]:
    orders_by_id: dict[str, Order] = {}
    for order in orders:
        orders_by_id.setdefault(order.order_id, order)
    with store.transaction() as tx:
        on_hand = tx.products({one for order in orders for one in order.product_ids}, lock=True)
        decided = tx.reservations(orders_by_id)
        fresh = [order for order_id, order in orders_by_id.items() if order_id not in decided]
        decisions, changed = domain.reserve_all(on_hand, fresh)
        tx.decide(decisions)
        tx.save(changed.values(), on_hand)
        tx.publish(_stock_changes(changed.values()))
        tx.publish(_reserved(orders_by_id, decisions))
    store.memory.remember((on_hand | changed).values())
    decided |= {decision.order_id: decision for decision in decisions}
    return [domain.repeated(order, decided[order.order_id]) for order in orders]


@retry_on_conflict
def release_stocks(
    store: ProductsStore, order_ids: Sequence[str], cause: tuple[str, str] | None = None
) -> None:
    """Give back what the orders have reserved; an order not seen yet will be refused when it comes.

    `cause` is the (consumer, event id) that asks for it: a second time changes nothing.
    """
    with store.transaction() as tx:
        if cause and not tx.is_new(*cause):
            return
        # The lines are read before the products are locked and the reservations after them: the
        # same order of locks as in reserve_stocks.
        expected = tx.reservations(order_ids)
        on_hand = tx.products({line.product_id for one in expected.values() for line in one.lines}, lock=True)
        current = tx.reservations(order_ids, lock=True)
        released = {order_id: one for order_id, one in current.items() if order_id in expected}
        changed = domain.release_all(on_hand, list(released.values()))
        tx.save(changed.values(), on_hand)
        tx.mark_released(list(released))
        unseen = [order_id for order_id in dict.fromkeys(order_ids) if order_id not in expected]
        tx.decide([Reservation(order_id=order_id, status=domain.RELEASED) for order_id in unseen])
        tx.publish(_stock_changes(changed.values()))


def _once(store: ProductsStore, command_id: str | None, command: tuple[Any, ...], effect: Any) -> Product:
    with store.transaction() as tx:
        return Product(**tx.once(command_id, command, lambda: as_row(effect(tx))))


def _stock_changes(changed: Any) -> list[tuple[StockChanged, int]]:
    return [(StockChanged(product_id=one.id, stock=one.stock), one.version) for one in changed]


def _reserved(
    orders: Mapping[str, Order], decisions: Sequence[Reservation]
) -> list[tuple[StocksReserved, int]]:
    """What is told of new reservations: in one event, for they are told for the sake of few."""
    told: list[ReservedOrder] = []
    for one in decisions:
        user_id = orders[one.order_id].user_id
        if user_id is not None and one.status == domain.RESERVED:
            items = [_item(line) for line in one.lines]
            told.append({"order_id": one.order_id, "user_id": user_id, "items": items})
    return [(StocksReserved(batch_id=uuid.uuid4().hex, orders=told), 1)] if told else []


def _item(line: ReservedLine) -> ReservedItem:
    return {"product_id": line.product_id, "quantity": line.quantity}


def all_products(store: ProductsStore, text: str | None = None) -> Iterator[Product]:
    """Every product in id order, a short transaction for each page."""
    after = ""
    while found := list_products(store, after, STREAM_PAGE, text):
        yield from found
        after = found[-1].id


def watched_products(store: ProductsStore, product_ids: list[str]) -> Iterator[Product]:
    """The products named, or all when none is. Raises UnknownProduct."""
    if not product_ids:
        return all_products(store)
    return iter([outcome.unwrap() for outcome in get_products(store, product_ids)])
