"""PostgreSQL engines that let other green threads run while a query waits.

Trick: planner switches. Services look rows up by key. PostgreSQL keeps the plan of a prepared statement. A
plan that was made while the table was small scans the whole table until the next ANALYZE. An engine opened
with `plans_by_index` therefore turns off scans and joins of whole tables. It keeps generic plans, because
planning for each set of values takes longer than looking up a row.

    open_engine(url)                        PostgreSQL's own defaults
    open_engine(url, plans_by_index=True)   for services that read and write rows by key

Gain: 16 lookups in a table of 100,000 rows take 0.2 ms instead of 34 ms (`python -m bench.tricks.sql`). The
statement was prepared while the table was empty. Delete the switches when PostgreSQL plans a prepared
statement anew as its table grows. tests/integration/services/test_engines.py looks at the plans.
"""

from __future__ import annotations

from typing import Any

import orjson
import psycopg2.extensions
import sqlalchemy as sa

from nameko_mesh.sql.json_codec import to_json
from nameko_mesh.sql.psycopg_eventlet import (
    CONNECT_TIMEOUT_SECONDS,
    LOCK_TIMEOUT_SECONDS,
    STATEMENT_TIMEOUT_SECONDS,
    Connection,
    wait_in_hub,
)

_PLANS_BY_INDEX = (
    "-c random_page_cost=1.1 -c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off "
    "-c plan_cache_mode=force_generic_plan"
)


def resolve_url(url: str) -> sa.URL:
    """Return the URL with psycopg2 as its driver, which lets other green threads run."""
    address = sa.make_url(url)
    return address.set(drivername="postgresql+psycopg2") if address.drivername == "postgresql" else address


def open_postgresql(address: sa.URL, pool_size: int, plans_by_index: bool) -> sa.Engine:
    """Return the engine. Also make all psycopg2 connections of the process wait in eventlet's hub."""
    psycopg2.extensions.set_wait_callback(wait_in_hub)
    engine = sa.create_engine(
        address,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=CONNECT_TIMEOUT_SECONDS,
        pool_use_lifo=True,  # the connection used last has its statements prepared and its caches warm
        pool_reset_on_return=None,  # `Connection` ends its transaction itself
        json_serializer=to_json,
        json_deserializer=orjson.loads,
        hide_parameters=True,  # an error in the log shows the statement, and no personal data
        connect_args={
            "connection_factory": Connection,
            "options": _options(plans_by_index),
            # TCP notices a server that vanished without closing the connection.
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
        },
    )
    # Replaces a listener to the event "begin": with any listener, SQLAlchemy dispatches all its other events
    # too.
    engine.dialect.do_begin = _begin  # type: ignore[method-assign, assignment]
    return engine


def _options(plans_by_index: bool) -> str:
    limits = f"-c statement_timeout={STATEMENT_TIMEOUT_SECONDS}s -c lock_timeout={LOCK_TIMEOUT_SECONDS}s"
    return f"{limits} -c timezone=UTC {_PLANS_BY_INDEX if plans_by_index else ''}"


def _begin(connection: Any) -> None:
    connection.driver_connection.begin_pending = True
