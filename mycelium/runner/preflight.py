"""What the environment and the command line name: looked at before anything starts, refused in one line.

What is imported in a function is needed there alone: whoever starts a mesh stays, to watch over it, and is to
be small.
"""

from __future__ import annotations

import http.client
import re
import urllib.error
import urllib.request
from pathlib import Path

from mycelium.runner.process_plan import SERVICES
from mycelium.servers import ServerError
from nameko_mesh.discovery.address import consul_url

CONNECT_TIMEOUT_SECONDS = 3


def check_folder(home: Path) -> None:
    """RabbitMQ's own scripts can't be run from a path with a space in it."""
    if re.search(r"\s", str(home)):
        raise ServerError(
            f"{home}: there is a space in it, which RabbitMQ can't bear: set MYCELIUM_HOME elsewhere"
        )


def check_broker(uri: str) -> None:
    from kombu.connection import Connection

    try:
        with Connection(uri, connect_timeout=CONNECT_TIMEOUT_SECONDS) as connection:
            connection.connect()
    except Exception as error:  # whatever kombu makes of a wrong URI, or of an address without a broker
        raise ServerError(f"AMQP_URI: no broker answers there: {_first_line(error)}") from error


def check_databases(template: str) -> None:
    """Every service's own database must be there, and let us in."""
    import sqlalchemy as sa

    from nameko_mesh.sql.postgresql import address_of

    if "{service}" not in template:
        raise ServerError("DATABASE_URL: expected {service} in it, which stands for the name of each service")
    for service in SERVICES:
        try:
            address = address_of(template.replace("{service}", service))
            if address.get_backend_name() not in ("sqlite", "postgresql"):
                raise ServerError("DATABASE_URL: expected sqlite:/// or postgresql://")
            if address.get_backend_name() == "postgresql":
                sa.create_engine(address, poolclass=sa.NullPool).connect().close()
        except (sa.exc.SQLAlchemyError, ImportError) as error:
            needed = ", ".join(SERVICES)
            raise ServerError(
                f"DATABASE_URL: {_first_line(error)} (a database for each of {needed} must exist)"
            ) from error


def consul_answers(http_addr: str) -> bool:
    url = f"{consul_url(http_addr)}/v1/status/leader"
    try:
        with urllib.request.urlopen(url, timeout=CONNECT_TIMEOUT_SECONDS):  # noqa: S310
            return True
    except urllib.error.HTTPError:
        return True  # it wants a token, perhaps: the services have one
    except (OSError, ValueError, http.client.HTTPException):
        return False


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
