"""Reads and writes of the tables of users."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from nameko_mesh.outbox import PublishingStore, PublishingTransaction
from nameko_mesh.sql import as_row
from services.users.domain import UnknownUser, User
from services.users.tables import users

_columns = [users.c[name] for name in User.__dataclass_fields__]


class UsersTransaction(PublishingTransaction):
    def user(self, user_id: str, *, lock: bool = False) -> User:
        """Read a user. Raises UnknownUser."""
        users_by_id = self.users([user_id], lock=lock)
        if user_id not in users_by_id:
            raise UnknownUser(f"there is no user {user_id}", "user_id")
        return users_by_id[user_id]

    def users(self, user_ids: Iterable[str], *, lock: bool = False) -> dict[str, User]:
        """Read the users who exist, by id."""
        query = sa.select(*_columns).where(users.c.id.in_(sorted(set(user_ids)))).order_by(users.c.id)
        rows = self.connection.execute(query.with_for_update() if lock else query)
        return {row.id: User(**row._mapping) for row in rows}

    def credentials(self, email: str) -> tuple[User, str] | None:
        """Read the user with this e-mail address and the hash of the password."""
        row = self.connection.execute(
            sa.select(*_columns, users.c.password_hash).where(users.c.email == email)
        ).one_or_none()
        if row is None:
            return None
        fields: dict[str, Any] = dict(row._mapping)
        password_hash = fields.pop("password_hash")
        return User(**fields), password_hash

    def has_email(self, email: str, *, besides: str | None = None) -> bool:
        """Tell whether a user other than `besides` has the e-mail address."""
        query = sa.select(users.c.id).where(users.c.email == email)
        owner = self.connection.scalar(query)
        return owner is not None and owner != besides

    def add(self, user: User, password_hash: str) -> None:
        self.connection.execute(users.insert(), {**as_row(user), "password_hash": password_hash})

    def save(self, user: User, password_hash: str | None = None) -> None:
        values = as_row(user) | ({"password_hash": password_hash} if password_hash else {})
        self.connection.execute(users.update().where(users.c.id == user.id).values(**values))


class UsersStore(PublishingStore[UsersTransaction]):
    transaction_cls = UsersTransaction
