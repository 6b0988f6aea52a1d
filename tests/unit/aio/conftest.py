from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import uvloop

from nameko_mesh.aio import RpcClient
from tests.unit.aio.fake_broker import FakeBroker


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
async def broker() -> AsyncIterator[FakeBroker]:
    async with FakeBroker() as broker:
        yield broker


@pytest.fixture
async def connect(broker: FakeBroker) -> AsyncIterator[Callable[..., Any]]:
    """Make clients. Stop them at the end, and check that no task of theirs is left."""
    before = asyncio.all_tasks()
    clients: list[RpcClient] = []

    async def make(*, start: bool = True, **options: Any) -> RpcClient:
        client = RpcClient(broker.uri, **{"name": "test", "default_timeout": 5.0} | options)
        clients.append(client)
        if start:
            await client.start()
        return client

    yield make
    for client in clients:
        await client.stop(drain=0)
    await broker.shut()
    left = [task for task in asyncio.all_tasks() - before if task is not asyncio.current_task()]
    assert not left, f"tasks were left behind: {left}"
