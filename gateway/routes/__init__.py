"""The routes, a module for each resource. A route decodes a request, calls a service, encodes the result."""

from . import auth, docs, health, orders, products, users

ROUTERS = tuple(module.router for module in (orders, products, users, auth, health, docs))
