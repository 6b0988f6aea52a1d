"""The gateway service on stock Nameko."""

from __future__ import annotations

import json

from nameko.rpc import ServiceRpc
from nameko.web.handlers import http


class GatewayService:
    name = "gateway"

    orders = ServiceRpc("orders")
    products = ServiceRpc("products")

    @http("POST", "/orders")
    def create_order(self, request):
        order = json.loads(request.get_data(as_text=True))
        placed = self.orders.create_order(order["user_id"], order["items"])
        return 201, {"Content-Type": "application/json"}, json.dumps(placed)

    @http("GET", "/products/<string:product_id>")
    def get_product(self, request, product_id):
        product = self.products.get_product(product_id)
        return 200, {"Content-Type": "application/json"}, json.dumps(product)
