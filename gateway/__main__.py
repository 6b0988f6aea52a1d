"""`python -m gateway`: serve until SIGTERM or SIGINT, then drain and exit 0."""

from __future__ import annotations

import logging
import socket
import sys
from functools import partial
from types import FrameType

import uvicorn
from fastapi import FastAPI

from mesh import garbage
from mesh.log import Formatter

from .app import create_app
from .direct import DirectProtocol
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
        garbage.settle_in()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._app.state.lifecycle.drain()
        await super().shutdown(sockets)


def main() -> int:
    console = logging.StreamHandler()
    console.setFormatter(Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(handlers=[console], level=logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for each question to Consul
    try:
        settings = load_settings()
        sockets = _listen(settings)
        host, port = sockets[0].getsockname()[:2]
        settings = settings.model_copy(update={"GATEWAY_PORT": port})
        app = create_app(settings)
    except (SettingsError, OSError) as error:
        print(f"gateway: {error}", file=sys.stderr)
        return 1
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=partial(DirectProtocol, direct=app.state.direct),  # type: ignore[arg-type]  # it is called, no more
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
    logging.getLogger("gateway").info("listening on %s port %d", host, port)
    server.run(sockets=sockets)
    return 0


def _listen(settings: Settings) -> list[socket.socket]:
    """Take the ports before anything else begins, our own first. Raises OSError that names one."""
    sockets = [_take(settings.GATEWAY_HOST, settings.GATEWAY_PORT)]
    if settings.GATEWAY_SHARED_PORT is not None:
        sockets.append(_take(settings.GATEWAY_HOST, settings.GATEWAY_SHARED_PORT, shared=True))
    return sockets


def _take(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """For a port that is shared the kernel chooses, for each connection, one of those who listen."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG, reuse_port=shared)
    except OSError as error:
        raise OSError(f"port {port} of {host} can't be had: {error.strerror}") from None


if __name__ == "__main__":
    sys.exit(main())
