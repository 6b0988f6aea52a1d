"""Reads the outbox of a service."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from nameko_mesh.outbox import outbox


def published(store: Any) -> list[dict[str, Any]]:
    """Return the envelopes in the outbox, in the sequence of their commits."""
    with store.transaction(read_only=True) as tx:
        bundles = tx.connection.scalars(sa.select(outbox.c.envelopes).order_by(outbox.c.seq))
        return [envelope for bundle in bundles for envelope in bundle]


def types(store: Any) -> list[str]:
    return [envelope["type"] for envelope in published(store)]
