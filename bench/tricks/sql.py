"""`python -m bench.tricks.sql`: what each trick of nameko_mesh.sql gains on PostgreSQL.

Both sides of a comparison do the same work in turns. Two figures are printed: the time of a call, which
includes the server, and the CPU time of this process. Each is the least of all rounds, because other programs
only add to it.
"""

from __future__ import annotations

import eventlet

eventlet.monkey_patch()

import sys  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from contextlib import contextmanager  # noqa: E402
from pathlib import Path  # noqa: E402

import sqlalchemy as sa  # noqa: E402

from bench.servers import CACHE  # noqa: E402
from mycelium.servers import postgresql, running  # noqa: E402
from nameko_mesh import sql  # noqa: E402
from nameko_mesh.sql import WriteBatch, migrations, open_engine, select_among  # noqa: E402
from nameko_mesh.sql.engine import autocommit_single_statement, reading, writing  # noqa: E402
from nameko_mesh.sql.postgresql import resolve_url  # noqa: E402

ROUNDS = 7
CALLS = 100
ROWS = 16
TABLE_ROWS = 100_000

things = sa.Table(
    "things",
    sa.MetaData(),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
)
COLUMNS = (things.c.id, things.c.name, things.c.version)

Side = Callable[[int], None]


def compare(name: str, trick: Side, plain: Side) -> None:
    """Run both sides in turns, the order reversed in every other round, and print the least times of each."""
    walls: dict[Side, list[float]] = {trick: [], plain: []}
    cpus: dict[Side, list[float]] = {trick: [], plain: []}
    trick(0)
    plain(1)
    for number in range(2, 2 + ROUNDS):
        for side in (trick, plain) if number % 2 else (plain, trick):
            wall, cpu = time.perf_counter(), time.process_time()
            for call in range(CALLS):
                side(number * CALLS + call)
            walls[side].append((time.perf_counter() - wall) / CALLS * 1e6)
            cpus[side].append((time.process_time() - cpu) / CALLS * 1e6)
    for what, times in (("time", walls), ("CPU of this process", cpus)):
        fast, slow = min(times[trick]), min(times[plain])
        print(f"{name}: {what} {slow:.0f} us plain, {fast:.0f} us with the trick, {slow / fast:.2f} times")


@contextmanager
def database() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as scratch:
        server = postgresql.find_or_fetch(CACHE, print).server(Path(scratch) / "data")
        with running(*server.programs, log_dir=Path(scratch)) as processes:
            processes.wait_until(server.is_ready, 60, "PostgreSQL")
            server.create_database("tricks")
            yield server.url_for("tricks")


def main() -> int:
    with database() as url:
        migrations.upgrade(url, [sql.SCHEMA])
        ours, plain = open_engine(url), sa.create_engine(resolve_url(url))
        with ours.begin() as connection:
            things.create(connection)
        compare_writes(ours)
        compare_single_statements(ours)
        compare_reads(ours)
        compare_begins(ours, plain)
        compare_plans(url)
        ours.dispose()
        plain.dispose()
    return 0


def _rows(number: int) -> list[dict[str, object]]:
    return [{"id": f"{number}-{row}", "name": "a name", "version": 1} for row in range(ROWS)]


def _changes(number: int) -> list[dict[str, object]]:
    return [{**row, "version": 2, "expected": 1} for row in _rows(number)]


def compare_writes(engine: sa.Engine) -> None:
    def one_statement(number: int) -> None:
        for fill in (
            lambda batch: batch.insert(things, _rows(number)),
            lambda batch: batch.update(things, _changes(number), ("name", "version"), if_still="version"),
        ):
            batch = WriteBatch()
            fill(batch)
            with writing(engine) as connection:
                batch.send(connection)

    condition = (things.c.id == sa.bindparam("key")) & (things.c.version == 1)
    update = things.update().where(condition).values(name=sa.bindparam("to"), version=2)

    def core(number: int) -> None:
        rows = [{**row, "id": f"core-{row['id']}"} for row in _rows(number)]
        with writing(engine) as connection:
            connection.execute(things.insert(), rows)
        with writing(engine) as connection:
            connection.execute(update, [{"key": row["id"], "to": "a name"} for row in rows])

    compare(f"WriteBatch, {ROWS} rows inserted, then updated, against SQLAlchemy Core", one_statement, core)


def compare_single_statements(engine: sa.Engine) -> None:
    def insert(number: int, *, alone: bool, prefix: str) -> None:
        batch = WriteBatch()
        batch.insert(things, [{"id": f"{prefix}-{number}", "name": "a name", "version": 1}])
        with writing(engine) as connection:
            if alone:
                autocommit_single_statement(connection)
            batch.send(connection)

    compare(
        "autocommit_single_statement, against BEGIN and COMMIT",
        lambda number: insert(number, alone=True, prefix="alone"),
        lambda number: insert(number, alone=False, prefix="begun"),
    )


def compare_reads(engine: sa.Engine) -> None:
    keys = [str(row["id"]) for row in _rows(5 * CALLS)]

    def prepared(number: int) -> None:
        with reading(engine) as connection:
            select_among(connection, COLUMNS, things.c.id, keys)

    def core(number: int) -> None:
        with reading(engine) as connection:
            connection.execute(sa.select(*COLUMNS).where(things.c.id.in_(keys))).fetchall()

    compare(f"select_among, {ROWS} keys, against SQLAlchemy Core", prepared, core)


def compare_begins(ours: sa.Engine, plain: sa.Engine) -> None:
    def read(engine: sa.Engine) -> None:
        with engine.begin() as connection:
            connection.exec_driver_sql("SELECT 1")

    compare(
        "BEGIN sent with the first statement, against psycopg2",
        lambda number: read(ours),
        lambda number: read(plain),
    )


def compare_plans(url: str) -> None:
    """Both engines prepare the lookup on an empty table, which then grows."""
    grown = sa.Table("grown", sa.MetaData(), *(column._copy() for column in COLUMNS))
    columns = tuple(grown.c)
    keys = [str(key) for key in range(0, TABLE_ROWS, TABLE_ROWS // ROWS)]
    by_index, default = open_engine(url, 1, plans_by_index=True), open_engine(url, 1)
    with default.begin() as connection:
        grown.create(connection)
        connection.exec_driver_sql("ALTER TABLE grown SET (autovacuum_enabled = off)")

    def look_up(engine: sa.Engine) -> None:
        with reading(engine) as connection:
            select_among(connection, columns, grown.c.id, keys)

    for engine in (by_index, default):
        with reading(engine) as connection:
            connection.exec_driver_sql("VACUUM grown")  # PostgreSQL now knows that the table is empty
        for _ in range(10):  # PostgreSQL decides on a generic plan after five executions
            look_up(engine)
    with default.begin() as connection:
        connection.exec_driver_sql(
            f"INSERT INTO grown SELECT n, 'a name', 1 FROM generate_series(0, {TABLE_ROWS}) AS n"
        )
    compare(
        f"plans_by_index, {ROWS} keys of {TABLE_ROWS:,} rows, prepared on the empty table",
        lambda number: look_up(by_index),
        lambda number: look_up(default),
    )
    by_index.dispose()
    default.dispose()


if __name__ == "__main__":
    sys.exit(main())
