"""An echo on stock Nameko's RPC entrypoint."""

from nameko.rpc import rpc


class StockEcho:
    name = "stock_echo"

    @rpc
    def echo(self, value):
        return value
