"""The routes, one module for each kind of thing: decode, ask a service, encode."""

from . import auth, docs, health, orders, products, users

ROUTERS = tuple(module.router for module in (orders, products, users, auth, health, docs))
