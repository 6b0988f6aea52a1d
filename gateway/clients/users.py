"""The client of users."""

from __future__ import annotations

from .base import ServiceClient
from .context import CallContext, Json


class Users(ServiceClient):
    service = "users"

    async def authenticate(self, context: CallContext, email: str, password: str) -> Json:
        return await self._call(context, "authenticate_user", email=email, password=password)

    async def register(self, context: CallContext, command_id: str, user: Json) -> Json:
        return await self._call(context, "register_user", command_id=command_id, **user)

    async def get(self, context: CallContext, user_id: str) -> Json:
        return await self._read(context, "get_user", user_id=user_id)

    async def update(self, context: CallContext, command_id: str, user_id: str, changes: Json) -> Json:
        return await self._call(context, "update_user", command_id=command_id, user_id=user_id, **changes)
