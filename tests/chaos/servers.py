"""What the private servers say of themselves: PostgreSQL and Consul."""

from __future__ import annotations

import json
import urllib.request

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from tests.chaos.mesh import Mesh

ASK_SECONDS = 5.0


def deadlocks(mesh: Mesh) -> int:
    """How many PostgreSQL has broken so far; SQLite has none to break."""
    if not mesh.is_postgresql:
        return 0
    engine = sa.create_engine(mesh.database_url("products"), poolclass=NullPool)
    with engine.connect() as connection:
        return int(connection.scalar(sa.text("SELECT sum(deadlocks) FROM pg_stat_database")) or 0)


def discovered(mesh: Mesh, name: str) -> bool:
    """Whether Consul would send somebody to this instance of a service."""
    service = name.rstrip("0123456789").rstrip("-")
    url = f"{mesh.settings['CONSUL_HTTP_ADDR']}/v1/health/service/{service}?passing"
    try:
        with urllib.request.urlopen(url, timeout=ASK_SECONDS) as answer:
            instances = json.loads(answer.read())
    except OSError:
        return False
    port = mesh.program(name)["HEALTH_PORT"]
    return any(one["Service"]["Meta"].get("health_port") == port for one in instances)
