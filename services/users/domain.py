"""The rules of users: their fields, and what an e-mail address and a password may be."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeGuard

from services.rules import Invalid, Refusal, checked_name

MAX_EMAIL_LENGTH = 254  # RFC 5321, section 4.5.3.1.3, less the angle brackets
MIN_PASSWORD_LENGTH, MAX_PASSWORD_LENGTH = 8, 128

USER, ADMIN = "user", "admin"

# Only the mail server knows which addresses exist. This pattern refuses texts that cannot be an address.
_EMAIL = re.compile(r"[^\s@<>\"(),:;\\\[\]\x00-\x1f]{1,64}@[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?")


class UnknownUser(Refusal):
    slug = "not-found"


class EmailTaken(Refusal):
    slug = "already-exists"


class KeyReused(Refusal):
    """The command id belongs to another command."""

    slug = "idempotency-key-reused"


class WrongCredentials(Refusal):
    """The message does not say which of the two is wrong, so that nobody can search for addresses."""

    slug = "unauthenticated"

    def __init__(self) -> None:
        super().__init__("the e-mail address or the password is wrong")


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    id: str
    name: str
    email: str
    role: str = USER
    version: int = 1
    created_at: datetime


def new_user(*, user_id: str, name: Any, email: Any, now: datetime, role: str = USER) -> User:
    """Make a user of unchecked input. Raises Invalid naming the first field that is wrong."""
    return User(id=user_id, name=checked_name(name), email=normal_email(email), role=role, created_at=now)


def check_change(name: Any, email: Any, password: Any) -> None:
    """Raise Invalid when there is nothing to change."""
    if name is None and email is None and password is None:
        raise Invalid("nothing to change: expected name, email or password", "name")


def changed(user: User, *, name: Any = None, email: Any = None) -> User:
    """Return the user with another name or e-mail address. Raises Invalid."""
    return replace(
        user,
        name=user.name if name is None else checked_name(name),
        email=user.email if email is None else normal_email(email),
        version=user.version + 1,
    )


def normal_email(value: Any) -> str:
    """Return the address in lower case. Raises Invalid.

    RFC 5321 allows mailboxes that differ by case alone, but no provider has them.
    """
    email = value.strip().lower() if _is_text(value) else ""
    looks_encoded = "=?" in email  # RFC 2047: mail programs would decode it into another address
    if not _EMAIL.fullmatch(email) or len(email) > MAX_EMAIL_LENGTH or ".." in email or looks_encoded:
        raise Invalid("email: expected an address like name@example.com", "email")
    return email


def checked_password(value: Any) -> str:
    """Check the length, which is the only rule (NIST SP 800-63B, section 5.1.1.2). Raises Invalid."""
    if not _is_text(value) or not MIN_PASSWORD_LENGTH <= len(value) <= MAX_PASSWORD_LENGTH:
        raise Invalid(
            f"password: expected {MIN_PASSWORD_LENGTH} to {MAX_PASSWORD_LENGTH} characters", "password"
        )
    return value


def _is_text(value: Any) -> TypeGuard[str]:
    """Tell whether the value is a string that PostgreSQL can store and UTF-8 can encode."""
    if not isinstance(value, str) or "\0" in value:
        return False
    return not any("\ud800" <= char <= "\udfff" for char in value)
