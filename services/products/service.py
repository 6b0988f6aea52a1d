"""The entrypoints of products: decode, delegate, encode."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import Any

from nameko_mesh.events import BROADCAST, batch_handler, event_handler
from nameko_mesh.grpc import Grpc
from nameko_mesh.outbox import OutboxRelay, PublishingDatabase
from nameko_mesh.outcome import Outcome
from nameko_mesh.paging import checked_limit, decode_cursor, page
from nameko_mesh.rpc import rpc
from nameko_mesh.runtime import Presence
from nameko_mesh.sql import Pruning, inbox
from nameko_mesh.sql import commands as commands_log
from protos import product_pb2 as pb
from protos.product_pb2_grpc import ProductServiceStub
from services.products import commands, wire
from services.products.domain import Product
from services.products.stock_watch import StockWatch
from services.products.store import ProductsStore

grpc = Grpc.implementing(ProductServiceStub)


class ProductsService:
    name = "products"

    store = PublishingDatabase(ProductsStore)
    stock_watch = StockWatch()
    relay = OutboxRelay()
    presence = Presence()
    pruning = Pruning(
        {inbox.c.received_at: timedelta(days=30), commands_log.c.executed_at: timedelta(days=7)}
    )

    @rpc
    def get_product(self, product_id: str) -> dict[str, Any]:
        return wire.product_to_wire(self._get([product_id])[0].unwrap())

    @rpc
    def get_products(self, product_ids: list[str]) -> list[dict[str, Any]]:
        return [outcome.map(wire.product_to_wire).to_wire() for outcome in self._get(product_ids)]

    @rpc
    def list_products(
        self, limit: int = 50, cursor: str | None = None, query: str | None = None
    ) -> dict[str, Any]:
        size = checked_limit(limit)
        (after,) = decode_cursor(cursor) or [""]  # unchecked: a malformed id only starts the page elsewhere
        products = commands.list_products(self.store, after, size + 1, query)
        return page(products, size, wire.product_to_wire, lambda product: [product.id])

    @rpc
    def create_product(
        self,
        name: str,
        price_minor: int,
        stock: int,
        currency: str = "USD",
        product_id: str | None = None,
        command_id: str | None = None,
    ) -> dict[str, Any]:
        fields = {"name": name, "price_minor": price_minor, "stock": stock, "currency": currency}
        return wire.product_to_wire(
            commands.create_product(self.store, command_id, product_id=product_id, **fields)
        )

    @rpc
    def update_product(
        self,
        product_id: str,
        name: str | None = None,
        price_minor: int | None = None,
        command_id: str | None = None,
    ) -> dict[str, Any]:
        return wire.product_to_wire(
            commands.update_product(self.store, command_id, product_id, name, price_minor)
        )

    @rpc
    def restock(self, command_id: str, product_id: str, quantity: int) -> dict[str, Any]:
        return wire.product_to_wire(commands.restock(self.store, command_id, product_id, quantity))

    @rpc
    def reserve_stock(self, order_id: str, items: list[dict[str, Any]]) -> dict[str, Any]:
        return self._reserve([{"order_id": order_id, "items": items}])[0].unwrap()

    @rpc
    def reserve_stocks(self, orders: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [outcome.to_wire() for outcome in self._reserve(orders)]

    @rpc
    def release_stock(self, order_id: str) -> dict[str, Any]:
        return self._release([order_id])[0].unwrap()

    @rpc
    def release_stocks(self, order_ids: list[str]) -> list[dict[str, Any]]:
        return [outcome.to_wire() for outcome in self._release(order_ids)]

    @event_handler("orders", "order_cancelled", for_ever=True)
    def on_order_cancelled(self, event: dict[str, Any]) -> None:
        cause = ("on_order_cancelled", event["event_id"])
        commands.release_stocks(self.store, [event["aggregate_id"]], cause)

    @batch_handler("products", "stock_changed", handler_type=BROADCAST, reliable_delivery=False)
    def on_stock_changed(self, events: list[dict[str, Any]]) -> None:
        for event in events:
            self.stock_watch.send(event)

    @grpc
    def GetProduct(self, request: pb.ProductRequest, context: Any) -> pb.ProductResponse:
        return wire.product_message(self._get([request.product_id])[0].unwrap())

    @grpc
    def BatchGetProducts(
        self, request: pb.BatchGetProductsRequest, context: Any
    ) -> pb.BatchGetProductsResponse:
        outcomes = self._get(list(request.product_ids))
        return pb.BatchGetProductsResponse(results=[wire.product_result(outcome) for outcome in outcomes])

    @grpc
    def ListProducts(self, request: pb.ListProductsRequest, context: Any) -> Iterator[pb.ProductResponse]:
        for product in commands.all_products(self.store, request.query or None):
            yield wire.product_message(product)

    @grpc
    def ReserveStock(self, request: pb.ReserveStockRequest, context: Any) -> pb.ReserveStockResponse:
        (reservation,) = commands.reserve_stocks(self.store, [wire.request_from_message(request)])
        return wire.reservation_message(wire.reservation_to_wire(reservation))

    @grpc
    def ReleaseStock(self, request: pb.ReleaseStockRequest, context: Any) -> pb.ReleaseStockResponse:
        self._release([request.order_id])[0].unwrap()
        return pb.ReleaseStockResponse(order_id=request.order_id)

    @grpc
    def WatchStock(self, request: pb.WatchStockRequest, context: Any) -> Iterator[pb.StockChange]:
        product_ids = list(request.product_ids)
        read_products = partial(commands.watched_products, self.store, product_ids)
        for product_id, stock, version in self.stock_watch.changes(
            context.response_stream, product_ids, read_products
        ):
            yield pb.StockChange(product_id=product_id, stock=stock, version=version)

    def _get(self, product_ids: list[str]) -> list[Outcome[Product]]:
        return commands.get_products(self.store, product_ids)

    def _reserve(self, orders: list[Any]) -> list[Outcome[dict[str, Any]]]:
        requests = Outcome.of_each(wire.request_from_wire, orders)
        outcomes = commands.reserve_each(self.store, requests)
        return [outcome.then(wire.reservation_to_wire) for outcome in outcomes]

    def _release(self, order_ids: list[Any]) -> list[Outcome[dict[str, Any]]]:
        return [outcome.map(wire.released) for outcome in commands.release_each(self.store, order_ids)]
