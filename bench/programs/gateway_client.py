"""The gateway on a given AMQP client: nameko_mesh.aio or aiormq."""

from __future__ import annotations

import sys

from gateway import app
from gateway.__main__ import main
from gateway.settings import Settings
from nameko_mesh.aio import RpcClient


def connect_over_aiormq(settings: Settings) -> RpcClient:
    """Return a client with the limits of gateway.clients.connect."""
    from bench.baselines.aiormq_client import AiormqClient

    return AiormqClient(
        settings.AMQP_URI,
        name="gateway",
        max_in_flight=settings.GATEWAY_CALLS,
        patience=settings.GATEWAY_DEADLINE / 2,
    )


if __name__ == "__main__":
    if sys.argv[1] == "aiormq":
        app.connect = connect_over_aiormq
    sys.exit(main())
