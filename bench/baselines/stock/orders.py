"""The orders service on stock Nameko."""

from __future__ import annotations

from nameko.events import EventDispatcher
from nameko.rpc import ServiceRpc, rpc

from bench.baselines.stock.tables import Order, OrderLine, Session


class OrdersService:
    name = "orders"

    session = Session()
    products = ServiceRpc("products")
    users = ServiceRpc("users")
    dispatch = EventDispatcher()

    @rpc
    def create_order(self, user_id, items):
        user = self.users.get_user(user_id)
        order = Order(user_id=user_id, lines=[])
        placed_lines = []
        for item in items:
            product = self.products.reserve_stock(item["product_id"], item["quantity"])
            line = {"product_id": product["id"], "quantity": item["quantity"]}
            order.lines.append(OrderLine(**line, price_minor=product["price_minor"]))
            placed_lines.append({**line, "name": product["name"], "price_minor": product["price_minor"]})
        self.session.add(order)
        self.session.commit()
        placed = {"order_id": order.id, "user": user, "items": placed_lines}
        self.dispatch("order_created", placed)
        return placed
