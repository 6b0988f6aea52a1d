"""Stock Nameko on PostgreSQL, on private servers."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa

from bench import load
from bench.catalogue import HOT, PRICE_MINOR, PRODUCTS, STOCK, USERS
from bench.servers import BackendServers, backend_servers, pids, stock_service
from bench.stacks import WrongBooks
from mycelium.servers import Processes, free_port, running

READY_TIMEOUT_SECONDS = 60
GRACE_SECONDS = 2
"""A stock gateway ends when a request arrives before its reply queue exists."""
_SERVICES = ("products", "users", "orders", "mailer", "gateway")


class Stock:
    name = "stock Nameko"

    def __init__(self, base: BackendServers, programs: Mapping[str, int], host: str) -> None:
        self._base, self._host = base, host
        self._roots = {**base.pids, **programs}

    @property
    def management_url(self) -> str:
        return self._base.broker.management_url or ""

    def orders(self) -> load.Load:
        return load.orders(self._host, dict.fromkeys(USERS, ""), one_line=False)

    def reads(self) -> load.Load:
        return load.reads(self._host)

    def roots(self) -> Mapping[str, int]:
        return self._roots

    def clean(self) -> None:
        execute(self._url("orders"), "TRUNCATE order_lines, orders", "CHECKPOINT")
        execute(self._url("products"), f"UPDATE products SET stock = {STOCK}", "VACUUM products")

    def open_books(self) -> None:
        """Nothing to record: `clean` has emptied the tables."""

    def placed(self) -> int:
        return int(rows(self._url("orders"), "SELECT count(*) FROM orders")[0][0])

    def settle(self) -> None:
        """Nothing to wait for: the consumer of events does nothing."""

    def check_books(self, answered: int, unknown: int) -> dict[str, float]:
        orders = self.placed()
        ((sold,),) = rows(self._url("products"), f"SELECT sum({STOCK} - stock) FROM products")
        if not answered <= orders <= sold <= answered + unknown:
            raise WrongBooks(f"stock Nameko: {answered} answers, {orders} orders, {sold} sold")
        return {}

    def _url(self, service: str) -> str:
        return self._base.database.url_for(service)


@contextmanager
def stock(folder: Path, *, management: bool = False) -> Iterator[Stock]:
    with backend_servers(folder, management=management) as base:
        _fill(base)
        host = f"127.0.0.1:{free_port()}"
        environment = {**base.environment, "WEB_SERVER_ADDRESS": host}
        programs = [stock_service(name, f"bench.baselines.stock.{name}", **environment) for name in _SERVICES]
        with running(*programs, log_dir=folder / "logs") as processes:
            processes.wait_until(lambda: _all_connected(processes), READY_TIMEOUT_SECONDS, "stock Nameko")
            time.sleep(GRACE_SECONDS)
            processes.wait_until(lambda: _takes_orders(host), READY_TIMEOUT_SECONDS, "stock Nameko")
            yield Stock(base, pids(processes), host)


def _all_connected(processes: Processes) -> bool:
    return all("Connected to amqp" in processes.log_of(name).read_text() for name in _SERVICES)


def _takes_orders(host: str) -> bool:
    order = {"user_id": USERS[0], "items": [{"product_id": HOT, "quantity": 1}]}
    try:
        return httpx.post(f"http://{host}/orders", json=order, timeout=5).status_code == 201
    except httpx.HTTPError:
        return False


def _fill(base: BackendServers) -> None:
    from bench.baselines.stock import tables

    metadata = tables.Base.metadata.tables
    here = {"products": ["products"], "users": ["users"], "orders": ["orders", "order_lines"]}
    for service, names in here.items():
        base.database.create_database(service)
        engine = sa.create_engine(base.database.url_for(service))
        tables.Base.metadata.create_all(engine, tables=[metadata[name] for name in names])
        engine.dispose()
    products = [
        {"id": product, "name": f"Product {product}", "price_minor": PRICE_MINOR, "stock": STOCK}
        for product in PRODUCTS
    ]
    users = [{"id": user, "name": user, "email": f"{user}@example.com"} for user in USERS]
    for service, values in (("products", products), ("users", users)):
        engine = sa.create_engine(base.database.url_for(service))
        with engine.begin() as connection:
            connection.execute(metadata[service].insert(), values)
        engine.dispose()


def execute(url: str, *statements: str) -> None:
    """Execute each statement outside of a transaction, as VACUUM and CHECKPOINT require."""
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()


def rows(url: str, query: str) -> list[Any]:
    """Return all rows of a query."""
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        result = list(connection.exec_driver_sql(query))
    engine.dispose()
    return result
