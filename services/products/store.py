"""Reads and writes of the tables of products. Rows are locked in id order, so batches cannot deadlock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from nameko_mesh.outbox import Handoff, PublishingStore, PublishingTransaction
from nameko_mesh.sql import among, as_row, select_among
from services.products import domain
from services.products.cache import ProductCache
from services.products.domain import Product
from services.products.reservations import RELEASED, Reservation, ReservedLine
from services.products.tables import products, reservations
from services.rules import Refusal


class ProductsTransaction(PublishingTransaction):
    def product(self, product_id: str, *, lock: bool = False) -> Product:
        """Read a product. Raises UnknownProduct."""
        return domain.existing(self.products([product_id], lock=lock), product_id)

    def products(self, product_ids: Iterable[str], *, lock: bool = False) -> dict[str, Product]:
        """Read the products that exist, by id."""
        rows = select_among(self.connection, tuple(products.c), products.c.id, product_ids, lock=lock)
        existing = (Product(**dict(zip(products.c.keys(), row, strict=True))) for row in rows)
        return {product.id: product for product in existing}

    def page(self, after: str, limit: int, text: str | None) -> list[Product]:
        """Read up to `limit` products in id order, after this id, with the text in their name or id."""
        query = sa.select(products).where(products.c.id > after).order_by(products.c.id).limit(limit)
        if text:
            query = query.where(
                products.c.name.icontains(text, autoescape=True)
                | products.c.id.icontains(text, autoescape=True)
            )
        return [Product(**row._mapping) for row in self.connection.execute(query)]

    def add(self, product: Product) -> None:
        self.connection.execute(products.insert(), as_row(product))

    def save(self, changed: Iterable[Product], before: Mapping[str, Product]) -> None:
        """Write changed products at the commit. It raises StaleWrite if one differs from `before`."""
        rows = [{**as_row(product), "expected": before[product.id].version} for product in changed]
        self.writes.update(products, rows, ("name", "price_minor", "stock", "version"), if_still="version")

    def reservations(self, order_ids: Iterable[str], *, lock: bool = False) -> dict[str, Reservation]:
        """Read the decisions made so far, by order id."""
        key = reservations.c.order_id
        rows = select_among(self.connection, tuple(reservations.c), key, order_ids, lock=lock)
        decisions = (_reservation(dict(zip(reservations.c.keys(), row, strict=True))) for row in rows)
        return {reservation.order_id: reservation for reservation in decisions}

    def add_reservations(self, decisions: Sequence[Reservation]) -> None:
        """Write new decisions at the commit, which raises IntegrityError if an order has one already."""
        now = {"decided_at": timedelta(0)}
        self.writes.insert(reservations, [_row(decision) for decision in decisions], due=now)

    def mark_released(self, order_ids: Sequence[str]) -> None:
        if order_ids:
            is_released = among(self.connection, reservations.c.order_id, order_ids)
            self.connection.execute(reservations.update().where(is_released).values(status=RELEASED))


class ProductsStore(PublishingStore[ProductsTransaction]):
    transaction_cls = ProductsTransaction

    def __init__(self, engine: sa.Engine, handoff: Handoff | None = None) -> None:
        super().__init__(engine, handoff)
        self.cache = ProductCache()


def _row(reservation: Reservation) -> dict[str, Any]:
    refusal = reservation.refusal
    return {
        "order_id": reservation.order_id,
        "status": reservation.status,
        "lines": reservation.lines,
        "currency": reservation.currency,
        "refusal": refusal and {"slug": refusal.slug, "message": str(refusal), "field": refusal.field},
    }


def _reservation(row: dict[str, Any]) -> Reservation:
    return Reservation(
        order_id=row["order_id"],
        status=row["status"],
        lines=tuple(ReservedLine(**line) for line in row["lines"]),
        currency=row["currency"],
        refusal=_refusal(row["refusal"]) if row["refusal"] else None,
    )


def _refusal(stored: dict[str, Any]) -> Refusal:
    refusal = Refusal(stored["message"], stored["field"])
    refusal.slug = stored["slug"]
    return refusal
