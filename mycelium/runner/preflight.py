"""Check what the environment and the command line name, before anything starts.

Large packages are imported in functions. The process that starts the mesh stays to supervise it, and has to
be small.
"""

from __future__ import annotations

import http.client
import re
import urllib.error
import urllib.request
from pathlib import Path

from mycelium.runner.process_plan import SERVICES, database_url_for
from mycelium.servers import ServerError
from nameko_mesh.discovery.address import consul_url

CONNECT_TIMEOUT_SECONDS = 3


def check_folder(home: Path) -> None:
    """Raise ServerError if the path has a space in it, because RabbitMQ's scripts cannot handle that."""
    if re.search(r"\s", str(home)):
        raise ServerError(
            f"{home}: RabbitMQ cannot run from a path with a space: set MYCELIUM_HOME elsewhere"
        )


def check_broker(uri: str) -> None:
    """Raise ServerError unless a broker accepts a login at the URI."""
    from kombu.connection import Connection

    try:
        with Connection(uri, connect_timeout=CONNECT_TIMEOUT_SECONDS) as connection:
            connection.connect()
    except Exception as error:  # kombu raises many types for a wrong URI or an address without a broker
        raise ServerError(f"AMQP_URI: cannot connect to the broker: {_first_line(error)}") from error


def check_databases(template: str) -> None:
    """Raise ServerError unless every service's database exists and accepts a login."""
    import sqlalchemy as sa

    for service in SERVICES:
        try:
            _check_database(database_url_for(template, service))
        except (sa.exc.SQLAlchemyError, ImportError) as error:
            needed = ", ".join(SERVICES)
            raise ServerError(
                f"DATABASE_URL: {_first_line(error)} (a database for each of {needed} must exist)"
            ) from error


def _check_database(url: str) -> None:
    import sqlalchemy as sa

    from nameko_mesh.sql import resolve_url

    address = resolve_url(url)
    backend = address.get_backend_name()
    if backend not in ("sqlite", "postgresql"):
        raise ServerError("DATABASE_URL: expected sqlite:/// or postgresql://")
    if backend == "postgresql":
        sa.create_engine(address, poolclass=sa.NullPool).connect().close()


def consul_answers(http_addr: str) -> bool:
    """Return whether a Consul agent answers, even if it refuses the request.

    A refusal may mean that the agent needs a token, which the services have.
    """
    url = f"{consul_url(http_addr)}/v1/status/leader"
    try:
        with urllib.request.urlopen(url, timeout=CONNECT_TIMEOUT_SECONDS):  # noqa: S310
            return True
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError, http.client.HTTPException):
        return False


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
