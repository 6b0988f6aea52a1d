"""The application behind a real server, for tests of the two together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import uvicorn
from fastapi import FastAPI
from uvicorn.server import ServerState

from gateway.web.coalesced_writes import HttpProtocol


@asynccontextmanager
async def served(app: FastAPI) -> AsyncIterator[int]:
    """Serve the application as `python -m gateway` does, but without its lifespan. Yield the port."""
    config = uvicorn.Config(app, http=HttpProtocol, log_config=None)
    config.load()
    state = ServerState()
    make = partial(config.http_protocol_class, config, state, {})
    async with await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
    await asyncio.gather(*state.tasks)
