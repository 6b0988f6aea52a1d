"""Bearer tokens: JWTs (RFC 7519) that are signed with the gateway's own secret, and their dependencies."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import Annotated

import jwt
from fastapi import Depends, Request
from fastapi.security import OAuth2PasswordBearer

from ..web.problems import Problem

ISSUER = "mycelium-gateway"
AUDIENCE = "mycelium"
ALGORITHM = "HS256"
LEEWAY_SECONDS = 5
_MAX_TOKEN_LENGTH = 2048
_MAX_CACHED_TOKENS = 10_000
_EXPIRED = "the token has expired; log in again"
_CLAIMS = ("iss", "aud", "sub", "role", "iat", "exp", "jti")


@dataclass(frozen=True, slots=True)
class Identity:
    """The user of a valid token. `expires` is in Unix seconds."""

    user_id: str
    role: str
    expires: float

    @property
    def is_admin(self) -> bool:
        return self.role == "admin"

    def may_act_for(self, user_id: str) -> bool:
        return self.is_admin or self.user_id == user_id


class Tokens:
    """Issues and verifies tokens. A valid token is cached until it expires. Lifetimes are in seconds."""

    def __init__(self, secret: bytes, lifetime: int) -> None:
        self._secret = secret
        self.lifetime = lifetime
        self._verified: dict[str, Identity] = {}

    def issue(self, user_id: str, role: str) -> str:
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": user_id,
            "role": role,
            "iat": now,
            "exp": now + self.lifetime,
            "jti": uuid.uuid4().hex,
        }
        return jwt.encode(claims, self._secret, algorithm=ALGORITHM)

    def verify(self, token: str) -> Identity:
        """Return the identity of the token's user. Raises Problem "unauthenticated"."""
        identity = self._verified.get(token)
        if identity is None:
            identity = self._decode(token)
            if len(self._verified) >= _MAX_CACHED_TOKENS:
                del self._verified[next(iter(self._verified))]
            self._verified[token] = identity
        elif identity.expires + LEEWAY_SECONDS <= time.time():
            del self._verified[token]
            raise _invalid_token(_EXPIRED)
        return identity

    def _decode(self, token: str) -> Identity:
        if len(token) > _MAX_TOKEN_LENGTH:
            raise _invalid_token("the token is not valid")
        try:
            claims = jwt.decode(
                token,
                self._secret,
                algorithms=[ALGORITHM],  # never the algorithm that the token names (RFC 8725, section 3.1)
                issuer=ISSUER,
                audience=AUDIENCE,
                leeway=LEEWAY_SECONDS,
                options={"require": list(_CLAIMS)},
            )
        except jwt.ExpiredSignatureError:
            raise _invalid_token(_EXPIRED) from None
        except jwt.InvalidTokenError:
            raise _invalid_token("the token is not valid") from None
        return Identity(claims["sub"], str(claims["role"]), float(claims["exp"]))


def _invalid_token(detail: str) -> Problem:
    """Return the problem, with the challenge that RFC 6750, section 3.1, asks for."""
    challenge = f'Bearer error="invalid_token", error_description="{detail}"'
    return Problem("unauthenticated", detail, headers={"WWW-Authenticate": challenge})


bearer = OAuth2PasswordBearer(
    tokenUrl="auth/token", auto_error=False, description="A token from POST /auth/token"
)


async def caller(request: Request, token: Annotated[str | None, Depends(bearer)]) -> Identity:
    """Return the identity of the caller. Raises Problem "unauthenticated" without a valid token."""
    if not token:
        raise Problem("unauthenticated", "a bearer token is required in the header Authorization")
    tokens: Tokens = request.app.state.gateway.tokens
    return tokens.verify(token)


async def admin(identity: Annotated[Identity, Depends(caller)]) -> Identity:
    """Return the identity of the caller, an admin. Raises Problem "forbidden" for other users."""
    if not identity.is_admin:
        raise Problem("forbidden", "this operation is for admins only")
    return identity


Caller = Annotated[Identity, Depends(caller)]
Admin = Annotated[Identity, Depends(admin)]
