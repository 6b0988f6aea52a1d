"""An asyncio client for Nameko services, stock ones too: RPC and events over one AMQP connection.

    import asyncio
    from nameko_mesh.aio import RpcClient

    async def main():
        async with RpcClient("amqp://guest:guest@localhost/", name="shop") as client:
            client.subscribe("products", ["stock_changed"], print)
            product = await client.call("products", "get_product", {"product_id": "P001"}, timeout=2.0)
            print(product["name"])

    asyncio.run(main())

From the socket up:

    wire, publish    bytes to frames, requests to bytes; no socket, no clock
    connection       one AMQP connection: login, heartbeats, flow; with its channels
    link, gate       a connection that comes back, and how long callers wait for it
    calls, events    what is in flight, what is subscribed to
    rpc              the client that puts them together

What a call raises is told in `nameko_mesh.errors`. Needs an event loop that is not monkey-patched
(uvloop and asyncio's own are both tested).
"""

from nameko_mesh.aio.amqp.reconnecting import backoff
from nameko_mesh.aio.amqp.subscription import Subscription
from nameko_mesh.aio.rpc_client import RpcClient

__all__ = ["RpcClient", "Subscription", "backoff"]
