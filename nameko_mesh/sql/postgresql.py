"""Engines of PostgreSQL that let other green threads run."""

from __future__ import annotations

from typing import Any

import orjson
import psycopg2.extensions
import sqlalchemy as sa

from nameko_mesh.sql.json_codec import _to_json
from nameko_mesh.sql.psycopg_eventlet import (
    CONNECT_SECONDS,
    LOCK_SECONDS,
    STATEMENT_SECONDS,
    Connection,
    wait_in_the_hub,
)

_BY_INDEX = (
    "-c random_page_cost=1.1 -c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off "
    "-c plan_cache_mode=force_generic_plan"
)
"""A service asks for rows by their keys. PostgreSQL keeps the plan of a prepared statement, and one that was
made while the table was small reads all of it ever after, until the next ANALYZE. Where it thinks that a plan
for the values in hand would be better, it makes one each time: that takes longer than to look up a row."""


def address_of(url: str) -> sa.URL:
    """The URL with the one PostgreSQL driver that leaves an eventlet process alive."""
    address = sa.make_url(url)
    return address.set(drivername="postgresql+psycopg2") if address.drivername == "postgresql" else address


def _open_postgresql(address: sa.URL, pool_size: int) -> sa.Engine:
    psycopg2.extensions.set_wait_callback(wait_in_the_hub)
    engine = sa.create_engine(
        address,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=CONNECT_SECONDS,
        pool_use_lifo=True,  # the statements of the connection used last are prepared, its caches warm
        pool_reset_on_return=None,  # a connection that is closed has ended its transaction itself
        json_serializer=_to_json,
        json_deserializer=orjson.loads,
        hide_parameters=True,  # an error in the log shows the statement, and nobody's data
        connect_args={
            "connection_factory": Connection,
            "options": f"-c statement_timeout={STATEMENT_SECONDS}s -c lock_timeout={LOCK_SECONDS}s "
            f"-c timezone=UTC {_BY_INDEX}",
            # A server that vanished without a word is noticed by TCP, not waited for.
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
        },
    )
    # In place of a listener to "begin": where there is one, SQLAlchemy looks for listeners to all else, too.
    engine.dialect.do_begin = _begin  # type: ignore[method-assign, assignment]
    return engine


def _begin(connection: Any) -> None:
    connection.driver_connection.is_wanted = True
