"""An asyncio client for Nameko services, stock ones too: RPC and events over one AMQP connection.

    import asyncio
    from nameko_mesh.aio import RpcClient

    async def main():
        async with RpcClient("amqp://guest:guest@localhost/", name="bookkeeper") as client:
            client.subscribe("accounts", ["account_opened"], print)
            account = await client.call("accounts", "get_account", {"account_id": "A001"}, timeout=2.0)
            print(account["name"])

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
