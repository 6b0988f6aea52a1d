"""The use cases of users: each function is one transaction."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from functools import partial
from typing import Any

from nameko_mesh.outcome import Outcome
from nameko_mesh.sql import as_row, retry_on_conflict
from services.rules import Invalid, checked_id
from services.users import domain, wire
from services.users.domain import User
from services.users.passwords import hash_password, matches
from services.users.store import UsersStore, UsersTransaction


def get_users(store: UsersStore, user_ids: list[Any]) -> list[Outcome[User]]:
    """Return an outcome for each id, in the order of the ids."""
    checked = Outcome.of_each(partial(checked_id, field="user_id"), user_ids)
    with store.transaction(read_only=True) as tx:
        users = tx.users(outcome.unwrap() for outcome in checked if not outcome.error)

    def lookup(user_id: str) -> User:
        if user_id not in users:
            raise domain.UnknownUser(f"there is no user {user_id}", "user_id")
        return users[user_id]

    return [outcome.then(lookup) for outcome in checked]


def authenticate_user(store: UsersStore, email: Any, password: Any) -> User:
    """Return the user with this e-mail address and password. Raises WrongCredentials."""
    try:
        address, secret = domain.normal_email(email), domain.checked_password(password)
    except Invalid:
        raise domain.WrongCredentials from None
    with store.transaction(read_only=True) as tx:
        credentials = tx.credentials(address)
    user, password_hash = credentials or (None, None)
    if not matches(password_hash, secret) or user is None:
        raise domain.WrongCredentials
    return user


@retry_on_conflict
def register_user(
    store: UsersStore,
    *,
    name: Any,
    email: Any,
    password: Any,
    user_id: str | None = None,
    role: str = domain.USER,
    command_id: str | None = None,
) -> User:
    """Register a user. Raises Invalid or EmailTaken.

    `user_id` and `role` are for seeding. RPC does not offer them.
    """
    user = domain.new_user(
        user_id=user_id or uuid.uuid4().hex, name=name, email=email, role=role, now=datetime.now(UTC)
    )
    password_hash = hash_password(domain.checked_password(password))

    def register(tx: UsersTransaction) -> tuple[User, str]:
        _check_email_free(tx, user)
        tx.add(user, password_hash)
        tx.publish([wire.user_registered(user)])
        return user, password_hash

    return _once(store, command_id, ("register_user", user.name, user.email), register, password)


@retry_on_conflict
def update_user(
    store: UsersStore,
    user_id: str,
    *,
    name: Any = None,
    email: Any = None,
    password: Any = None,
    command_id: str | None = None,
) -> User:
    """Change the name, the e-mail address or the password. Raises Invalid, UnknownUser or EmailTaken."""
    checked_id(user_id, "user_id")
    domain.check_change(name, email, password)
    password_hash = None if password is None else hash_password(domain.checked_password(password))

    def update(tx: UsersTransaction) -> tuple[User, str | None]:
        before = tx.user(user_id, lock=True)
        user = domain.changed(before, name=name, email=email)
        _check_email_free(tx, user)
        tx.save(user, password_hash)
        if (user.name, user.email) != (before.name, before.email):
            tx.publish([wire.user_updated(user)])
        return user, password_hash

    command = ("update_user", user_id, name, email, password is None)
    return _once(store, command_id, command, update, password)


def _check_email_free(tx: UsersTransaction, user: User) -> None:
    if tx.has_email(user.email, besides=user.id):
        raise domain.EmailTaken("email: this address is taken", "email")


def _once(
    store: UsersStore, command_id: str | None, command: tuple[Any, ...], effect: Any, password: str | None
) -> User:
    """Execute a command, or repeat its first answer. Raises KeyReused if it came with another password.

    `command` leaves out the password, because a command is stored as a fast hash, which is easy to guess. The
    stored answer has the slow hash of the password instead.
    """

    def answer() -> dict[str, Any]:
        user, password_hash = effect(tx)
        return as_row(user) | {
            "created_at": user.created_at.isoformat(),
            "password_hash": password_hash,
        }

    with store.transaction() as tx:
        kept = tx.once(command_id, command, answer)
    password_hash = kept.pop("password_hash")
    if command_id is not None and password is not None and not matches(password_hash, password):
        message = "command_id: expected a new id, because this id was used for another command"
        raise domain.KeyReused(message, "command_id")
    return User(**kept | {"created_at": datetime.fromisoformat(kept["created_at"])})
