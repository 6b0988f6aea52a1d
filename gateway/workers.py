"""Several processes that accept from one port, for machines whose cores one process can't use.

Each is a whole gateway, with a connection to the broker of its own. What waits to be accepted belongs to
the port, so a worker that dies takes only the requests it has begun with it. uvicorn starts the workers
and replaces those that end or no longer answer; what is added here is what they have in common: one entry
in Consul's catalogue, limits that hold for all of them together, and an end with their parent.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import multiprocessing
import signal
import socket
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from mesh import garbage

from .registration import Registration
from .server import configure, configure_logging
from .settings import Settings, load_settings

if TYPE_CHECKING:
    from fastapi import FastAPI

log = logging.getLogger(__name__)

_BEAT_SECONDS = 1
_ANSWER_SECONDS = 1.0
_HUNG_SECONDS = 20.0
"""A worker whose event loop stands still for so long, besides the time to drain, ends itself."""


def run(settings: Settings, listening: socket.socket) -> int:
    """Serve until SIGTERM or SIGINT; the exit code is 1 when a worker can't start."""
    config = configure(
        settings,
        "gateway.workers:create_app",
        factory=True,
        workers=settings.GATEWAY_WORKERS,
        callback_notify=_Heartbeat(_HUNG_SECONDS + settings.GATEWAY_DRAIN_SECONDS),
        timeout_notify=_BEAT_SECONDS,
    )
    agent = settings.CONSUL_HTTP_ADDR
    workers = _Workers(config, listening, Registration(settings, agent) if agent else None)
    workers.run()
    return int(any(process.exitcode == STARTUP_FAILURE for process in workers.processes))


def create_app() -> FastAPI:
    """What one worker serves: uvicorn calls this in the worker."""
    from .app import create_app as create_whole

    configure_logging()
    return create_whole(load_settings().share(), registered=False)


class _Workers(Multiprocess):
    """uvicorn's parent of workers, which serves nothing itself and holds the port."""

    def __init__(
        self, config: uvicorn.Config, listening: socket.socket, registration: Registration | None
    ) -> None:
        super().__init__(config, [listening])
        self._registration = registration
        self._is_registered = False

    def keep_subprocess_alive(self) -> None:
        super().keep_subprocess_alive()
        if not self._is_registered and any(process.is_ready(_ANSWER_SECONDS) for process in self.processes):
            self._is_registered = True
            if self._registration is not None:
                self._registration.start()

    def terminate_all(self) -> None:
        if self._is_registered and self._registration is not None:
            asyncio.run(self._registration.stop())
        for listening in self.sockets:  # or clients would be let in where nobody accepts any more
            listening.close()
        super().terminate_all()

    def handle_hup(self) -> None:
        """Their number and settings are those of the environment: start the gateway anew to change them."""
        log.warning("the workers stay as they are: SIGHUP, SIGTTIN and SIGTTOU change nothing")

    handle_ttin = handle_ttou = handle_hup


class _Heartbeat:
    """Called in the event loop of a worker once it serves, and each second from then on."""

    def __init__(self, hung_seconds: float) -> None:
        self._hung_seconds = hung_seconds
        self._has_begun = False

    async def __call__(self) -> None:
        if not self._has_begun:
            self._has_begun = True
            garbage.settle_in()
        faulthandler.dump_traceback_later(self._hung_seconds, exit=True)
        parent = multiprocessing.parent_process()
        if parent is not None and not parent.is_alive():
            log.error("the parent of this worker has gone: it leaves too")
            signal.raise_signal(signal.SIGTERM)
