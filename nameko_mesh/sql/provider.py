"""The extensions that give a service its database."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from nameko.extensions import DependencyProvider, SharedExtension

from nameko_mesh.outbox.handoff import Handoff
from nameko_mesh.settings import database_url, required
from nameko_mesh.sql.engine import open_engine
from nameko_mesh.sql.schema_version import check_migrated


class Engine(SharedExtension):
    """The engine of the service's own database, one for all its extensions."""

    def __init__(self) -> None:
        self.handoff = Handoff()

    def setup(self) -> None:
        required("AMQP_URI")  # what is missing is said before a file is made
        url = database_url(self.container.service_name)
        self.engine = open_engine(url)
        self.for_probes = open_engine(url, pool_size=1)
        """Whether the database answers must not depend on a pool that is busy."""
        folder = Path(inspect.getfile(self.container.service_cls)).parent / "migrations"
        check_migrated(self.for_probes, folder)

    def stop(self) -> None:
        self.engine.dispose()
        self.for_probes.dispose()


class Database(DependencyProvider):
    """Injects a store over this service's own database."""

    shared = Engine()

    def __init__(self, make_store: Callable[[sa.Engine, Handoff], Any]) -> None:
        self.make_store = make_store
        self._store: Any = None

    def get_dependency(self, worker_ctx: Any) -> Any:
        if self._store is None:  # not at the start: entrypoints may have started before
            self._store = self.make_store(self.shared.engine, self.shared.handoff)
        return self._store
