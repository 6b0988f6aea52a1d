"""The example of docs/extending.md: the outbox without any other part of the mesh, on SQLite."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from nameko import config
from nameko.standalone.rpc import ServiceRpcClient

from nameko_mesh.sql import migrations
from tests.examples import python_blocks
from tests.waiting import eventually


@pytest.fixture
def accounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Return the example as a module, with its database migrated."""
    (block,) = [block for block in python_blocks("docs/extending.md") if "OutboxRelay" in block]
    (tmp_path / "accounts.py").write_text(block)
    monkeypatch.syspath_prepend(tmp_path)
    module = import_module("accounts")
    migrations.upgrade(f"sqlite:///{tmp_path}/accounts.db", module.SCHEMAS)
    yield module
    del sys.modules["accounts"]


@pytest.mark.parametrize(
    "container_cls", ["nameko.containers.ServiceContainer", "nameko_mesh.runtime.Container"]
)
def test_event_of_the_example_reaches_its_handler(
    accounts: Any, container_factory: Any, container_cls: str
) -> None:
    with config.patch({"SERVICE_CONTAINER_CLS": container_cls}):
        for service in (accounts.AccountsService, accounts.LettersService):
            container_factory(service).start()
        with ServiceRpcClient("accounts", timeout=10) as client:
            client.open_account("A1")
        eventually(lambda: accounts.LettersService.sent == ["A1"])
