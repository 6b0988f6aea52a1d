"""The routes, one module for each kind of thing: decode, ask a service, encode."""

from . import auth, docs, health, orders, products, users

ROUTERS = tuple(module.router for module in (orders, products, users, auth, health, docs))

MOST_ASKED = (
    ("POST", "/orders", orders.place_order),
    ("GET", "/products/{id}", products.show_product),
)
"""Those that are served directly."""
