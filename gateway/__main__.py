"""`python -m gateway`: serve until SIGTERM or SIGINT, then drain and exit 0."""

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

_BACKLOG = 2048


class _Server(uvicorn.Server):
    """uvicorn's, but it leaves Consul before it drains, and a signal to stop is no failure."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.force_exit = self.should_exit  # told twice: wait for nobody
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        gc_tuning.freeze_startup_objects()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for shared in self.servers[1:]:  # there others accept
            shared.close()
        await self._app.state.lifecycle.drain()
        await super().shutdown(sockets)


def main() -> int:
    console = logging.StreamHandler()
    console.setFormatter(Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(handlers=[console], level=logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for each question to Consul
    try:
        settings = load_settings()
        sockets = _open_sockets(settings)
        host, port = sockets[0].getsockname()[:2]
        settings = settings.model_copy(update={"GATEWAY_PORT": port})
        app = create_app(settings)
    except (SettingsError, OSError) as error:
        print(f"gateway: {error}", file=sys.stderr)
        return 1
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.GATEWAY_TRUSTED_PROXIES),
        forwarded_allow_ips=settings.GATEWAY_TRUSTED_PROXIES,
        backlog=_BACKLOG,
        timeout_graceful_shutdown=settings.GATEWAY_DRAIN_SECONDS,
    )
    server = _Server(config, app)
    log = logging.getLogger("gateway")
    log.info("listening on %s port %d", host, port)
    if settings.GATEWAY_SHARED_PORT is not None:
        log.info("and on port %d, with others", settings.GATEWAY_SHARED_PORT)
    server.run(sockets=sockets)
    return 0


def _open_sockets(settings: Settings) -> list[socket.socket]:
    """Before anything else begins, our own first. Raises OSError that names one."""
    host, own, shared = settings.GATEWAY_HOST, settings.GATEWAY_PORT, settings.GATEWAY_SHARED_PORT
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    port = own
    try:
        sockets = [socket.create_server((host, own), family=family, backlog=_BACKLOG)]
        if shared is not None:
            port = shared
            sockets.append(open_shared_socket((host, shared), family))
    except OSError as error:
        raise OSError(f"port {port} of {host} can't be had: {error.strerror}") from None
    return sockets


def open_shared_socket(address: tuple[str, int], family: socket.AddressFamily) -> socket.socket:
    """The kernel chooses, for each connection, one of those who listen: the server does once it serves."""
    taken = socket.socket(family)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    taken.bind(address)
    return taken


if __name__ == "__main__":
    sys.exit(main())
