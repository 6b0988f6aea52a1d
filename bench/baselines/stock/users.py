"""The users service on stock Nameko."""

from __future__ import annotations

from nameko.rpc import rpc

from bench.baselines.stock.tables import Session, User


class UsersService:
    name = "users"

    session = Session()

    @rpc
    def get_user(self, user_id):
        user = self.session.get(User, user_id)
        return {"id": user.id, "name": user.name, "email": user.email}
