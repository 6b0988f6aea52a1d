"""gateway: stock Nameko."""

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
        wish = json.loads(request.get_data(as_text=True))
        order = self.orders.create_order(wish["user_id"], wish["items"])
        return 201, {"Content-Type": "application/json"}, json.dumps(order)

    @http("GET", "/products/<string:product_id>")
    def get_product(self, request, product_id):
        product = self.products.get_product(product_id)
        return 200, {"Content-Type": "application/json"}, json.dumps(product)
