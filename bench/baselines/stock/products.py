"""The products service on stock Nameko."""

from __future__ import annotations

from nameko.rpc import rpc

from bench.baselines.stock.tables import Product, Session


class ProductsService:
    name = "products"

    session = Session()

    @rpc
    def get_product(self, product_id):
        return _to_wire(self.session.get(Product, product_id))

    @rpc
    def reserve_stock(self, product_id, quantity):
        product = self.session.get(Product, product_id, with_for_update=True)
        if product.stock < quantity:
            raise ValueError(f"{product_id} is out of stock")
        product.stock -= quantity
        self.session.commit()
        return _to_wire(product)


def _to_wire(product):
    return {
        "id": product.id,
        "name": product.name,
        "price_minor": product.price_minor,
        "stock": product.stock,
    }
