"""Users as they travel: plain data over RPC, events over AMQP."""

from __future__ import annotations

from typing import Any

from nameko_mesh.events import timestamp
from services.users.domain import User
from services.users.events import UserRegistered, UserUpdated


def user_to_wire(user: User) -> dict[str, Any]:
    return {
        "id": user.id,
        "name": user.name,
        "email": user.email,
        "role": user.role,
        "version": user.version,
        "created_at": timestamp(user.created_at),
    }


def user_registered(user: User) -> tuple[UserRegistered, int]:
    return UserRegistered(user_id=user.id, name=user.name, email=user.email), user.version


def user_updated(user: User) -> tuple[UserUpdated, int]:
    return UserUpdated(user_id=user.id, name=user.name, email=user.email), user.version
