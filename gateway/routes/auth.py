"""Logging in: OAuth2's password form (RFC 6749, section 4.3) for a bearer token."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.security import OAuth2PasswordRequestForm
from starlette.responses import Response

from nameko_mesh.errors import Refused

from ..clients.context import text
from ..schemas import responses
from .dependencies import OfGateway, OfRequest
from .responses import BEHIND, answer, problems

router = APIRouter(tags=["auth"])

_LONGEST_NAME = 254
_LONGEST_PASSWORD = 128


@router.post(
    "/auth/token",
    response_model=responses.Token,
    responses=problems("unauthenticated", "rate-limited", *BEHIND),
)
async def log_in(
    request: Request,
    form: Annotated[OAuth2PasswordRequestForm, Depends()],
    gateway: OfGateway,
    context: OfRequest,
) -> Response:
    """The username is the e-mail address. Failed logins are limited by account and by address."""
    address = request.client.host if request.client else "unknown"
    with gateway.throttle.attempt(form.username, address):
        # What no user can have is refused here as users would, before it costs a hash.
        if len(form.username) > _LONGEST_NAME or len(form.password) > _LONGEST_PASSWORD:
            raise _wrong()
        user = await gateway.users.authenticate(context, form.username, form.password)
    token = gateway.tokens.issue(text(user, "id"), text(user, "role"))
    return answer({"access_token": token, "token_type": "bearer", "expires_in": gateway.tokens.seconds})


def _wrong() -> Refused:
    return Refused("unauthenticated", "the e-mail address or the password is wrong")
