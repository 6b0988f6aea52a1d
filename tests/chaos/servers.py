"""Queries to the private servers: deadlocks in PostgreSQL, healthy instances in Consul."""

from __future__ import annotations

import json
import urllib.request

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from tests.chaos.mesh import Mesh

RESPONSE_TIMEOUT_SECONDS = 5.0


def deadlocks(mesh: Mesh) -> int:
    """Return the number of deadlocks so far in PostgreSQL. SQLite has none."""
    if not mesh.is_postgresql:
        return 0
    engine = sa.create_engine(mesh.database_url("products"), poolclass=NullPool)
    with engine.connect() as connection:
        return int(connection.scalar(sa.text("SELECT sum(deadlocks) FROM pg_stat_database")) or 0)


def discovered(mesh: Mesh, name: str) -> bool:
    """Return True if this instance of a service is healthy in Consul."""
    service = name.rstrip("0123456789").rstrip("-")
    url = f"{mesh.settings['CONSUL_HTTP_ADDR']}/v1/health/service/{service}?passing"
    try:
        with urllib.request.urlopen(url, timeout=RESPONSE_TIMEOUT_SECONDS) as response:
            instances = json.loads(response.read())
    except OSError:
        return False
    port = mesh.program(name)["HEALTH_PORT"]
    return any(instance["Service"]["Meta"].get("health_port") == port for instance in instances)
