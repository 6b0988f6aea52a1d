"""Waiting for conditions, never for a guessed time."""

import asyncio

from nameko_mesh.errors import MeshError


async def answering(client):
    """Waits until the stock services take calls: before their first start nobody has made their queue."""
    await until(lambda: _answers(client))


async def _answers(client):
    try:
        return await client.call("stock", "echo", {"value": True}, timeout=1.0)
    except MeshError:
        return False


async def until(condition, seconds=30.0):
    """Waits for a condition, plain or async, and returns what it was; fails after that many seconds."""
    async with asyncio.timeout(seconds):
        while True:
            value = condition()
            if asyncio.iscoroutine(value):
                value = await value
            if value:
                return value
            await asyncio.sleep(0.02)
