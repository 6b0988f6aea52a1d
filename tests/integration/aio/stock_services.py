"""Services of stock Nameko, as a team without nameko_mesh would write them."""

from decimal import Decimal

import eventlet
from nameko.events import EventDispatcher
from nameko.extensions import DependencyProvider
from nameko.rpc import rpc


class ContextData(DependencyProvider):
    def get_dependency(self, worker_ctx):
        return worker_ctx.context_data


class StockService:
    name = "stock"

    context = ContextData()
    dispatch = EventDispatcher()
    executed = []

    @rpc
    def echo(self, value):
        return value

    @rpc
    def sleep(self, seconds):
        eventlet.sleep(seconds)
        return seconds

    @rpc
    def record(self, mark, seconds=0):
        self.executed.append(mark)
        eventlet.sleep(seconds)

    @rpc
    def recorded(self):
        return list(self.executed)

    @rpc
    def fail(self):
        raise ValueError("sold", "out")

    @rpc
    def price(self):
        return Decimal("1.50")

    @rpc
    def context_data(self):
        return self.context

    @rpc
    def publish(self, event_type, payload):
        self.dispatch(event_type, payload)
