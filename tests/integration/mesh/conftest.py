"""Fixtures for Nameko containers over a real broker. Each test has its own virtual host."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from nameko import config

from nameko_mesh import outbox, sql
from nameko_mesh.outbox.claims import OutboxStore
from nameko_mesh.sql import migrations, open_engine


@pytest.fixture(scope="session", autouse=True)
def _broker(rabbitmq_node: Any, request: pytest.FixtureRequest) -> None:
    """Set the options from which Nameko's own fixtures take the broker."""
    request.config.option.RABBIT_AMQP_URI = rabbitmq_node.amqp_uri
    request.config.option.RABBIT_API_URI = rabbitmq_node.management_url


@pytest.fixture(autouse=True)
def mesh_config(rabbit_config: None, tmp_path: Path) -> Iterator[None]:
    settings = {
        "DATABASE_URL": f"sqlite:///{tmp_path}/{{service}}.db",
        "HEALTH_PORT": 0,
        "SERVICE_CONTAINER_CLS": "nameko_mesh.runtime.Container",
        "HEARTBEAT": 10,
    }
    with config.patch(settings):
        yield


@pytest.fixture
def outbox_store(tmp_path: Path) -> Iterator[OutboxStore]:
    """Return the outbox of a service called `source`."""
    url = f"sqlite:///{tmp_path}/source.db"
    migrations.upgrade(url, [sql.SCHEMA, outbox.SCHEMA])
    engine = open_engine(url)
    yield OutboxStore(engine)
    engine.dispose()


@pytest.fixture
def queue_of(rabbit_manager: Any) -> Callable[[str], dict[str, Any]]:
    """Return a function that reads the state of a queue from the broker's management API."""

    def ask(name: str) -> dict[str, Any]:
        vhost = config["AMQP_URI"].rsplit("/", 1)[1]
        answer: dict[str, Any] = rabbit_manager.get_queue(vhost, name)
        return answer

    return ask
