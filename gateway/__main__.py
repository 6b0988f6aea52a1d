"""`python -m gateway`: serve until SIGTERM or SIGINT, then drain and exit with 0."""

from __future__ import annotations

import logging
import socket
import sys
from types import FrameType

import uvicorn
from fastapi import FastAPI

from nameko_mesh import gc_tuning
from nameko_mesh.log import Formatter

from .app import create_app
from .settings import Settings, SettingsError, load_settings
from .web.coalesced_writes import HttpProtocol

_BACKLOG = 2048

log = logging.getLogger("gateway")


class _Server(uvicorn.Server):
    """A server that leaves Consul before it drains, and for which a signal to stop is no failure."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.force_exit = self.should_exit  # a second signal ends the process without draining
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        gc_tuning.freeze_startup_objects()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for shared in self.servers[1:]:  # the other gateways accept on the shared port
            shared.close()
        await self._app.state.lifecycle.drain()
        await super().shutdown(sockets)


def main() -> int:
    _configure_logging()
    try:
        settings = load_settings()
        sockets = _open_sockets(settings)
        host, port = sockets[0].getsockname()[:2]
        settings = settings.model_copy(update={"GATEWAY_PORT": port})
        app = create_app(settings)
    except (SettingsError, OSError) as error:
        print(f"gateway: {error}", file=sys.stderr)
        return 1
    server = _Server(_make_config(app, settings), app)
    log.info("listening on %s port %d", host, port)
    if settings.GATEWAY_SHARED_PORT is not None:
        log.info("also listening on port %d, which is shared", settings.GATEWAY_SHARED_PORT)
    server.run(sockets=sockets)
    return 0


def _configure_logging() -> None:
    console = logging.StreamHandler()
    console.setFormatter(Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(handlers=[console], level=logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # at INFO it logs each request to Consul


def _make_config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="uvloop",
        http=HttpProtocol,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.GATEWAY_TRUSTED_PROXIES),
        forwarded_allow_ips=settings.GATEWAY_TRUSTED_PROXIES,
        backlog=_BACKLOG,
        timeout_graceful_shutdown=settings.GATEWAY_DRAIN_SECONDS,
    )


def _open_sockets(settings: Settings) -> list[socket.socket]:
    """Open this gateway's own port, then the shared one. Raises OSError that names the port."""
    host, own_port, shared_port = settings.GATEWAY_HOST, settings.GATEWAY_PORT, settings.GATEWAY_SHARED_PORT
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    port = own_port
    try:
        sockets = [socket.create_server((host, own_port), family=family, backlog=_BACKLOG)]
        if shared_port is not None:
            port = shared_port
            sockets.append(open_shared_socket((host, shared_port), family))
    except OSError as error:
        raise OSError(f"port {port} of {host} is not available: {error.strerror}") from None
    return sockets


def open_shared_socket(address: tuple[str, int], family: socket.AddressFamily) -> socket.socket:
    """Bind a port that several gateways share.

    For each connection the kernel chooses one of the sockets that listen. uvicorn listens once it serves.
    """
    shared = socket.socket(family)
    shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    shared.bind(address)
    return shared


if __name__ == "__main__":
    sys.exit(main())
