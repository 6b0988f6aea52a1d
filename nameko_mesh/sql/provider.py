"""The extensions that give a service its database."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import sqlalchemy as sa
from nameko.extensions import DependencyProvider, SharedExtension

from nameko_mesh.settings import database_url, required
from nameko_mesh.sql import tables
from nameko_mesh.sql.engine import open_engine, reading
from nameko_mesh.sql.schema import Schema, service_schema
from nameko_mesh.sql.schema_version import check_migrated


class Engine(SharedExtension):
    """The engine of the service's own database, which all its extensions share.

    Two attributes of the service's extensions configure the engine: `plans_by_index = True` (sql.postgresql),
    and `schemas`, which must be migrated before the service starts.
    """

    def setup(self) -> None:
        required("AMQP_URI")  # report a missing setting before a database file is made
        url = database_url(self.container.service_name)
        plans_by_index = any(
            getattr(extension, "plans_by_index", False) for extension in self.container.extensions
        )
        self.engine = open_engine(url, plans_by_index=plans_by_index)
        self._probe_engine = open_engine(url, pool_size=1)
        check_migrated(self._probe_engine, self._schemas())

    def _schemas(self) -> Iterator[Schema]:
        """Yield the service's own schema, `sql.SCHEMA`, and the schemas of the service's other extensions."""
        yield service_schema(inspect.getfile(self.container.service_cls), sa.MetaData())
        yield tables.SCHEMA
        for extension in self.container.extensions:
            schemas: Iterable[Schema] = getattr(extension, "schemas", ())
            yield from schemas

    def probe(self) -> None:
        """Query the database through a connection of its own, because the pool may be busy.

        Raises an error of the database when it does not answer.
        """
        with reading(self._probe_engine) as connection:
            connection.execute(sa.text("SELECT 1"))

    def stop(self) -> None:
        self.engine.dispose()
        self._probe_engine.dispose()


class Database(DependencyProvider):
    """Injects a store over this service's own database.

    `plans_by_index` is for services that read and write rows by key: see sql.postgresql.
    """

    shared = Engine()

    def __init__(self, make_store: Callable[[sa.Engine], Any], *, plans_by_index: bool = False) -> None:
        self.make_store = make_store
        self.plans_by_index = plans_by_index
        self._store: Any = None

    def get_dependency(self, worker_ctx: Any) -> Any:
        if self._store is None:  # not in `setup`: the shared engine may be set up later
            self._store = self.open_store(self.shared.engine)
        return self._store

    def open_store(self, engine: sa.Engine) -> Any:
        return self.make_store(engine)
