"""The one AMQP connection of this process, over which all calls and events travel."""

from __future__ import annotations

from mesh.aio import RpcClient

from .settings import Settings


def connect(settings: Settings) -> RpcClient:
    """A client that is not started yet.

    While the broker is away a call waits for it half of its deadline at most: a short break goes
    unnoticed, and in a long one the client is told what is wrong instead of that time ran out.
    """
    return RpcClient(
        settings.AMQP_URI,
        name="gateway",
        max_in_flight=settings.GATEWAY_CALLS,
        patience=settings.GATEWAY_DEADLINE / 2,
    )
