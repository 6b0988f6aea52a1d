"""The models. Each service has its own database."""

from __future__ import annotations

from eventlet.support import psycopg2_patcher
from nameko import config
from nameko.extensions import DependencyProvider
from sqlalchemy import ForeignKey, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, sessionmaker


class Base(DeclarativeBase):
    pass


class Product(Base):
    __tablename__ = "products"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    price_minor: Mapped[int]
    stock: Mapped[int]


class User(Base):
    __tablename__ = "users"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    email: Mapped[str]


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[str]
    lines: Mapped[list[OrderLine]] = relationship(back_populates="order")


class OrderLine(Base):
    __tablename__ = "order_lines"

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))
    product_id: Mapped[str]
    quantity: Mapped[int]
    price_minor: Mapped[int]
    order: Mapped[Order] = relationship(back_populates="lines")


class Session(DependencyProvider):
    """Injects a session per worker, as nameko-sqlalchemy does."""

    def setup(self) -> None:
        psycopg2_patcher.make_psycopg_green()  # otherwise two orders of a product could freeze the process
        url = config["DATABASE_URL"].replace("{service}", self.container.service_name)
        self.engine = create_engine(url)
        self.make_session = sessionmaker(self.engine)
        self.sessions = {}

    def get_dependency(self, worker_ctx):
        session = self.sessions[worker_ctx] = self.make_session()
        return session

    def worker_teardown(self, worker_ctx) -> None:
        self.sessions.pop(worker_ctx).close()

    def stop(self) -> None:
        self.engine.dispose()
