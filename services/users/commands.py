"""What can be done with users: each function is one transaction."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from functools import partial
from typing import Any

from nameko_mesh.outcome import Outcome
from nameko_mesh.sql import as_row, retry_on_conflict
from services.rules import Invalid, checked_id
from services.users import domain
from services.users.domain import User
from services.users.events import UserRegistered, UserUpdated
from services.users.passwords import hash_password, matches
from services.users.store import UsersStore, UsersTransaction


def get_users(store: UsersStore, user_ids: list[Any]) -> list[Outcome[User]]:
    """An outcome for each id, in the order asked for."""
    checked = Outcome.of_each(partial(checked_id, field="user_id"), user_ids)
    with store.transaction(read_only=True) as tx:
        found = tx.users(one.unwrap() for one in checked if not one.error)

    def lookup(user_id: str) -> User:
        if user_id not in found:
            raise domain.UnknownUser(f"there is no user {user_id}", "user_id")
        return found[user_id]

    return [one.then(lookup) for one in checked]


def authenticate_user(store: UsersStore, email: Any, password: Any) -> User:
    """The user, or WrongCredentials."""
    try:
        address, secret = domain.normal_email(email), domain.checked_password(password)
    except Invalid:
        raise domain.WrongCredentials("the e-mail address or the password is wrong") from None
    with store.transaction(read_only=True) as tx:
        known = tx.credentials(address)
    if not matches(known and known[1], secret) or known is None:
        raise domain.WrongCredentials("the e-mail address or the password is wrong")
    return known[0]


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
    """`user_id` and `role` are for the operator (seeding, the first admin); RPC does not offer them."""
    user = domain.new_user(
        user_id=user_id or uuid.uuid4().hex, name=name, email=email, role=role, now=datetime.now(UTC)
    )
    password_hash = hash_password(domain.checked_password(password))

    def register(tx: UsersTransaction) -> tuple[User, str]:
        _check_email_free(tx, user)
        tx.add(user, password_hash)
        tx.publish([(UserRegistered(user_id=user.id, name=user.name, email=user.email), user.version)])
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
    checked_id(user_id, "user_id")
    if name is None and email is None and password is None:
        raise Invalid("nothing to change: expected name, email or password", "name")
    password_hash = None if password is None else hash_password(domain.checked_password(password))

    def update(tx: UsersTransaction) -> tuple[User, str | None]:
        before = tx.user(user_id, lock=True)
        user = domain.changed(before, name=name, email=email)
        _check_email_free(tx, user)
        tx.save(user, password_hash)
        if (user.name, user.email) != (before.name, before.email):
            tx.publish([(UserUpdated(user_id=user.id, name=user.name, email=user.email), user.version)])
        return user, password_hash

    command = ("update_user", user_id, name, email, password is None)
    return _once(store, command_id, command, update, password)


def _check_email_free(tx: UsersTransaction, user: User) -> None:
    if tx.has_email(user.email, besides=user.id):
        raise domain.EmailTaken("email: this address is taken", "email")


def _once(
    store: UsersStore, command_id: str | None, command: tuple[Any, ...], effect: Any, password: str | None
) -> User:
    """The user, as the first answer told. Raises KeyReused when the same command came with another password.

    No password is part of `command`, whose fingerprint is quick to guess: it is kept as the hash it has.
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
        raise domain.KeyReused("command_id: it was used for another command", "command_id")
    return User(**kept | {"created_at": datetime.fromisoformat(kept["created_at"])})
