"""The entrypoints of users: decode, delegate, encode."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from nameko_mesh.outbox import OutboxRelay, PublishingDatabase
from nameko_mesh.rpc import rpc
from nameko_mesh.runtime import Presence
from nameko_mesh.sql import Pruning
from nameko_mesh.sql import commands as commands_log
from services.users import commands, wire
from services.users.store import UsersStore


class UsersService:
    name = "users"

    store = PublishingDatabase(UsersStore)
    relay = OutboxRelay()
    presence = Presence()
    pruning = Pruning({commands_log.c.executed_at: timedelta(days=7)})

    @rpc(sensitive_arguments=("password",))
    def register_user(
        self, name: str, email: str, password: str, command_id: str | None = None
    ) -> dict[str, Any]:
        return wire.user_to_wire(
            commands.register_user(
                self.store, name=name, email=email, password=password, command_id=command_id
            )
        )

    @rpc(sensitive_arguments=("password",))
    def authenticate_user(self, email: str, password: str) -> dict[str, Any]:
        return wire.user_to_wire(commands.authenticate_user(self.store, email, password))

    @rpc
    def get_user(self, user_id: str) -> dict[str, Any]:
        return wire.user_to_wire(commands.get_users(self.store, [user_id])[0].unwrap())

    @rpc
    def get_users(self, user_ids: list[str]) -> list[dict[str, Any]]:
        return [
            outcome.map(wire.user_to_wire).to_wire() for outcome in commands.get_users(self.store, user_ids)
        ]

    @rpc(sensitive_arguments=("password",))
    def update_user(
        self,
        user_id: str,
        name: str | None = None,
        email: str | None = None,
        password: str | None = None,
        command_id: str | None = None,
    ) -> dict[str, Any]:
        return wire.user_to_wire(
            commands.update_user(
                self.store, user_id, name=name, email=email, password=password, command_id=command_id
            )
        )
