"""Transactions over SQLAlchemy that never block an eventlet process, on PostgreSQL and SQLite.

    store = Database(ThingsStore)          in a service; ThingsStore is a Store of a Transaction subclass

    with store.transaction() as tx:
        tx.writes.update(things, rows, ("name",), if_still="version")

| modules | task |
|---|---|
| engine, postgresql, sqlite, psycopg_eventlet | open connections |
| transaction | begins, commits, and decides what an error means: `Store.transaction` |
| statement, write_batch, reads, sql_file | statements for many rows |
| retry, idempotency | make commands safe to repeat |
| tables, schema, schema_version, migrations | prepare databases |
| provider, pruning | the extensions of a service |
| db_clock, json_codec | the database's time, and JSON columns |

The package knows no events. The outbox uses the hooks of a transaction: `before_commit`, `after_commit`,
`on_rollback` and `on_unknown_outcome`.
"""

from nameko_mesh.sql.db_clock import clock
from nameko_mesh.sql.engine import open_engine, reading
from nameko_mesh.sql.postgresql import resolve_url
from nameko_mesh.sql.provider import Database, Engine
from nameko_mesh.sql.pruning import Pruning
from nameko_mesh.sql.reads import among, select_among
from nameko_mesh.sql.retry import optimistically, retry_on_conflict
from nameko_mesh.sql.schema import Schema, service_schema
from nameko_mesh.sql.schema_version import NotMigrated
from nameko_mesh.sql.sql_file import load_sql
from nameko_mesh.sql.statement import StaleWrite, Statement
from nameko_mesh.sql.tables import SCHEMA, UtcDateTime, as_row, commands, inbox, insert_ignoring_conflicts
from nameko_mesh.sql.transaction import Store, Transaction
from nameko_mesh.sql.write_batch import WriteBatch, document

__all__ = [
    "SCHEMA",
    "Database",
    "Engine",
    "NotMigrated",
    "Pruning",
    "Schema",
    "StaleWrite",
    "Statement",
    "Store",
    "Transaction",
    "UtcDateTime",
    "WriteBatch",
    "among",
    "as_row",
    "clock",
    "commands",
    "document",
    "inbox",
    "insert_ignoring_conflicts",
    "load_sql",
    "open_engine",
    "optimistically",
    "reading",
    "resolve_url",
    "retry_on_conflict",
    "select_among",
    "service_schema",
]
