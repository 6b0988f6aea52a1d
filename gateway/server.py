"""The HTTP server under the application: uvicorn, with its port taken before anything else begins."""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any

import uvicorn

from mesh import garbage
from mesh.log import Formatter

from .settings import Settings

_BACKLOG = 2048


def configure_logging() -> None:
    console = logging.StreamHandler()
    console.setFormatter(Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(handlers=[console], level=logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for each question to Consul


def listen(settings: Settings) -> socket.socket:
    """Take the port. Raises OSError that names it."""
    host, port = settings.GATEWAY_HOST, settings.GATEWAY_PORT
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise OSError(f"port {port} of {host} can't be had: {error.strerror}") from None


def configure(settings: Settings, app: Any, **more: Any) -> uvicorn.Config:
    """What is the same for a gateway of one process and for one of several."""
    return uvicorn.Config(
        app,
        loop="uvloop",
        http="gateway.direct:DirectProtocol",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.GATEWAY_TRUSTED_PROXIES),
        forwarded_allow_ips=settings.GATEWAY_TRUSTED_PROXIES,
        backlog=_BACKLOG,
        timeout_graceful_shutdown=settings.GATEWAY_DRAIN_SECONDS,
        **more,
    )


class Server(uvicorn.Server):
    """uvicorn's, but it leaves Consul before it drains, and a signal to stop is no failure."""

    def __init__(self, config: uvicorn.Config, drain: Callable[[], Awaitable[None]]) -> None:
        super().__init__(config)
        self._drain = drain

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.force_exit = self.should_exit  # told twice: wait for nobody
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        garbage.settle_in()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._drain()
        await super().shutdown(sockets)
