"""The REST tutorial under gunicorn and uvicorn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

from bench import load
from bench.catalogue import USERS
from bench.servers import pids, python_program
from mycelium.servers import Processes, free_ports, running

WORKERS = 4
READY_TIMEOUT_SECONDS = 30
_BASELINE = "bench.baselines.tutorial"


class Tutorial:
    name = "tutorial"

    def __init__(self, processes: Processes, orders_port: int, products_port: int) -> None:
        self._roots = pids(processes)
        self._orders, self._products = f"127.0.0.1:{orders_port}", f"127.0.0.1:{products_port}"

    def orders(self) -> load.Load:
        return load.orders(self._orders, dict.fromkeys(USERS, ""), one_line=True)

    def reads(self) -> load.Load:
        return load.reads(self._products)

    def roots(self) -> Mapping[str, int]:
        return self._roots

    def clean(self) -> None:
        """Nothing to empty: the tutorial has neither tables nor queues."""

    def open_books(self) -> None:
        """Nothing to record."""

    def settle(self) -> None:
        """Nothing to wait for: a response ends all work."""

    def check_books(self, answered: int, unknown: int) -> dict[str, float]:
        return {}  # each worker keeps its own orders


@contextmanager
def tutorial(folder: Path) -> Iterator[Tutorial]:
    orders, users, products = free_ports(3)
    urls = {"USERS_URL": f"http://127.0.0.1:{users}", "PRODUCTS_URL": f"http://127.0.0.1:{products}"}
    programs = (
        python_program("users", "gunicorn", *_gunicorn(users), f"{_BASELINE}.users:app"),
        python_program(
            "products", "uvicorn", "--port", str(products), "--no-access-log", f"{_BASELINE}.products:app"
        ),
        python_program("orders", "gunicorn", *_gunicorn(orders), f"{_BASELINE}.orders:application", **urls),
    )
    with running(*programs, log_dir=folder / "logs") as processes:
        for port, path in ((users, f"/users/{USERS[0]}"), (products, "/docs"), (orders, "/")):
            processes.wait_until(lambda: _is_up(port, path), READY_TIMEOUT_SECONDS, path)  # noqa: B023
        yield Tutorial(processes, orders, products)


def _gunicorn(port: int) -> tuple[str, ...]:
    return ("--workers", str(WORKERS), "--bind", f"127.0.0.1:{port}")


def _is_up(port: int, path: str) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}{path}", timeout=5).status_code < 500
    except httpx.HTTPError:
        return False
