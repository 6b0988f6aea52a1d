"""Clients of Nameko services for asyncio: RPC and events over one AMQP connection, and gRPC.

    import asyncio
    from nameko_mesh.aio import RpcClient

    async def main():
        async with RpcClient("amqp://guest:guest@localhost/", name="bookkeeper") as client:
            client.subscribe("accounts", ["account_opened"], print)
            account = await client.call("accounts", "get_account", {"account_id": "A001"}, timeout=2.0)
            print(account["name"])

    asyncio.run(main())

| name | purpose |
|---|---|
| RpcClient, Subscription | calls and events over AMQP |
| GuardedRpc | the same calls, with a breaker for each service and a retry budget |
| Balancer, Discovery, Method | gRPC calls to the less busy of several instances, which Consul knows |
| Batcher | items of many callers in one call |
| Breaker, STATES, RetryBudget | the parts of GuardedRpc and Balancer |
| NoInstance | the error of Balancer when no instance is usable |
| Rpc | the protocol that RpcClient and its doubles implement |
| parse_addresses | checks an AMQP URI |

Services of stock Nameko can be called too. The errors of a call are those of `nameko_mesh.errors`. The event
loop must not be monkey-patched; uvloop and asyncio's own loop are both tested. The package imports neither
eventlet nor Nameko. Names are resolved at their first use, so that `RpcClient` does not load grpcio.

The layers of the AMQP client, from the socket up:

| modules of `amqp` | task |
|---|---|
| decoder, request_encoder | bytes to frames, requests to bytes; no socket and no clock |
| connection, channel | login, heartbeats, flow control; the channels of one connection |
| reconnecting, gate | a connection that is opened again after a loss; calls wait meanwhile |
| pending_calls, subscription | calls in flight, and events |
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nameko_mesh.aio.amqp.address import parse_addresses
    from nameko_mesh.aio.amqp.subscription import Subscription
    from nameko_mesh.aio.batcher import Batcher
    from nameko_mesh.aio.breaker import STATES, Breaker
    from nameko_mesh.aio.discovery import Discovery
    from nameko_mesh.aio.grpc.balancer import Balancer, NoInstance
    from nameko_mesh.aio.grpc.instance import Method
    from nameko_mesh.aio.guarded_rpc import GuardedRpc, Rpc
    from nameko_mesh.aio.retries import RetryBudget
    from nameko_mesh.aio.rpc_client import RpcClient

_MODULES = {
    "STATES": "breaker",
    "Balancer": "grpc.balancer",
    "Batcher": "batcher",
    "Breaker": "breaker",
    "Discovery": "discovery",
    "GuardedRpc": "guarded_rpc",
    "Method": "grpc.instance",
    "NoInstance": "grpc.balancer",
    "RetryBudget": "retries",
    "Rpc": "guarded_rpc",
    "RpcClient": "rpc_client",
    "Subscription": "amqp.subscription",
    "parse_addresses": "amqp.address",
}

__all__ = [
    "STATES",
    "Balancer",
    "Batcher",
    "Breaker",
    "Discovery",
    "GuardedRpc",
    "Method",
    "NoInstance",
    "RetryBudget",
    "Rpc",
    "RpcClient",
    "Subscription",
    "parse_addresses",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
