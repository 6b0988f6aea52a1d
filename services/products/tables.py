"""The tables of products. Changed by migrations alone (migrations/versions)."""

import sqlalchemy as sa

from nameko_mesh import outbox, sql
from nameko_mesh.sql import UtcDateTime

metadata = sa.MetaData()

products = sa.Table(
    "products",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("price_minor", sa.BigInteger, nullable=False),
    sa.Column("currency", sa.String(3), nullable=False),
    sa.Column("stock", sa.Integer, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.CheckConstraint("stock >= 0", name="stock_not_negative"),
    sa.CheckConstraint("price_minor >= 0", name="price_not_negative"),
)

reservations = sa.Table(
    "reservations",
    metadata,
    sa.Column("order_id", sa.String(64), primary_key=True),
    sa.Column("status", sa.String(10), nullable=False),
    sa.Column("lines", sa.JSON, nullable=False),
    sa.Column("currency", sa.String(3)),
    sa.Column("refusal", sa.JSON),
    sa.Column("decided_at", UtcDateTime, nullable=False),
)

SCHEMAS = (sql.service_schema(__file__, metadata), sql.SCHEMA, outbox.SCHEMA)
