"""The events of users. A published schema never changes: see tests/contracts/events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nameko_mesh.events import Event


@dataclass(frozen=True, kw_only=True)
class UserRegistered(Event):
    """A user has registered. Awaited: orders keeps a copy of every customer."""

    TYPE: ClassVar[str] = "user_registered"
    AGGREGATE: ClassVar[str] = "user_id"
    AWAITED: ClassVar[bool] = True

    user_id: str
    name: str
    email: str


@dataclass(frozen=True, kw_only=True)
class UserUpdated(Event):
    """The name or the e-mail address has changed. Awaited: orders keeps a copy of every customer."""

    TYPE: ClassVar[str] = "user_updated"
    AGGREGATE: ClassVar[str] = "user_id"
    AWAITED: ClassVar[bool] = True

    user_id: str
    name: str
    email: str
