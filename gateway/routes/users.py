"""Users. Anyone may sign up. Users read and change themselves, and admins read all users."""

from __future__ import annotations

import uuid
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import Response

from ..auth.tokens import Caller
from ..clients.context import require_text
from ..schemas import requests, responses
from ..web.json_body import JsonBody
from ..web.problems import Problem
from .dependencies import GatewayDep, IdempotencyKey, RequestContext, UserId, command_id
from .responses import BACKEND_PROBLEMS, BODY_PROBLEMS, json_response, problem_responses

router = APIRouter(tags=["users"])

_new_user = JsonBody[requests.NewUser](requests.NewUser)
_changes = JsonBody[requests.UserChanges](requests.UserChanges)


@router.post(
    "/users",
    status_code=201,
    response_model=responses.User,
    responses=problem_responses("already-exists", *BODY_PROBLEMS),
    openapi_extra=_new_user.openapi,
)
async def sign_up(
    body: Annotated[requests.NewUser, Depends(_new_user)], gateway: GatewayDep, context: RequestContext
) -> Response:
    # Ignore an Idempotency-Key: there is no caller that it belongs to, so a guess would show another's user.
    user = await gateway.users.register(context, str(uuid.uuid4()), body.sent_fields())
    return json_response(user, 201, f"/users/{require_text(user, 'id')}")


@router.get(
    "/users/me",
    response_model=responses.User,
    responses=problem_responses("unauthenticated", *BACKEND_PROBLEMS),
)
async def show_me(caller: Caller, gateway: GatewayDep, context: RequestContext) -> Response:
    return json_response(await gateway.users.get(context, caller.user_id))


@router.get(
    "/users/{id}",
    response_model=responses.User,
    responses=problem_responses("unauthenticated", "forbidden", "not-found", *BACKEND_PROBLEMS),
)
async def show_user(caller: Caller, id: UserId, gateway: GatewayDep, context: RequestContext) -> Response:
    if not caller.may_act_for(id):
        raise Problem("forbidden", "only this user or an admin may see the user")
    return json_response(await gateway.users.get(context, id))


@router.patch(
    "/users/me",
    response_model=responses.User,
    responses=problem_responses("unauthenticated", "already-exists", *BODY_PROBLEMS),
    openapi_extra=_changes.openapi,
)
async def change_me(
    caller: Caller,
    key: IdempotencyKey,
    body: Annotated[requests.UserChanges, Depends(_changes)],
    gateway: GatewayDep,
    context: RequestContext,
) -> Response:
    command = command_id(caller, "PATCH /users/me", key)
    return json_response(await gateway.users.update(context, command, caller.user_id, body.sent_fields()))
