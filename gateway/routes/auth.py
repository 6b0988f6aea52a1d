"""Login: a bearer token in exchange for OAuth2's password form (RFC 6749, section 4.3)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.security import OAuth2PasswordRequestForm
from starlette.responses import Response

from nameko_mesh.errors import Refused

from ..clients.context import require_text
from ..schemas import requests, responses
from .dependencies import GatewayDep, RequestContext
from .responses import BACKEND_PROBLEMS, json_response, problem_responses

router = APIRouter(tags=["auth"])


@router.post(
    "/auth/token",
    response_model=responses.Token,
    responses=problem_responses("unauthenticated", "rate-limited", *BACKEND_PROBLEMS),
)
async def log_in(
    request: Request,
    form: Annotated[OAuth2PasswordRequestForm, Depends()],
    gateway: GatewayDep,
    context: RequestContext,
) -> Response:
    """The username is the e-mail address. Failed logins are limited by account and by address."""
    address = request.client.host if request.client else "unknown"
    with gateway.throttle.attempt(form.username, address):
        # No user has such credentials. Refuse them in the words of users, but without the cost of a hash.
        if (
            len(form.username) > requests.MAX_EMAIL_LENGTH
            or len(form.password) > requests.MAX_PASSWORD_LENGTH
        ):
            raise _wrong_credentials()
        user = await gateway.users.authenticate(context, form.username, form.password)
    token = gateway.tokens.issue(require_text(user, "id"), require_text(user, "role"))
    return json_response(
        {"access_token": token, "token_type": "bearer", "expires_in": gateway.tokens.lifetime}
    )


def _wrong_credentials() -> Refused:
    return Refused("unauthenticated", "the e-mail address or the password is wrong")
