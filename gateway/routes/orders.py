"""Orders. Users place, read, follow and cancel their own orders. Admins do so for all users."""

from __future__ import annotations

import secrets
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response, StreamingResponse

from nameko_mesh.errors import MeshError, Refused

from ..auth.tokens import Caller, Identity
from ..clients.context import CallContext, Json, require_text
from ..order_events.sse import StatusStream
from ..schemas import requests, responses
from ..web.json_body import JsonBody
from ..web.problems import Problem, log_failure, problem_from_error
from .dependencies import Cursor, Gateway, GatewayDep, IdempotencyKey, Limit, OrderId, RequestContext
from .responses import BACKEND_PROBLEMS, BODY_PROBLEMS, json_response, problem_responses

router = APIRouter(tags=["orders"])

order_body = JsonBody[requests.OrderOfLines | requests.OrderOfOne](requests.PlaceOrder)

_UNKNOWN_OUTCOME_CODES = frozenset({"unavailable", "deadline-exceeded"})


@router.post(
    "/orders",
    status_code=201,
    response_model=responses.Order,
    responses={
        202: {"model": responses.Order, "description": "Accepted; the outcome is not known yet"},
        **problem_responses(
            "unauthenticated",
            "forbidden",
            "not-found",
            "out-of-stock",
            "request-in-progress",
            "idempotency-key-reused",
            *BODY_PROBLEMS,
        ),
    },
    openapi_extra=order_body.openapi,
)
async def place_order(
    caller: Caller,
    key: IdempotencyKey,
    body: Annotated[requests.OrderOfLines | requests.OrderOfOne, Depends(order_body)],
    gateway: GatewayDep,
    context: RequestContext,
) -> Response:
    """Place an order of one or more products. Either all of its lines are reserved or none.

    After a response 503 or 504 the order may or may not have been placed. The response has a header
    `Idempotency-Key`. Send the same order again with this key to learn the outcome without ordering twice.
    """
    user_id = body.user_id or caller.user_id
    if not caller.may_act_for(user_id):
        raise Problem("forbidden", "user_id: only an admin may order for another user")
    key = key or secrets.token_hex(16)
    order = {"user_id": user_id, "items": body.lines(), "idempotency_key": key}
    try:
        response = _to_response(await gateway.orders.place(context, order))
    except MeshError as error:
        log_failure(error, context.request_id)
        raise _to_problem(error, key) from None
    response.raw_headers.append((b"idempotency-key", key.encode()))
    return response


def _to_response(order: Json) -> Response:
    status = require_text(order, "status")
    if status == "rejected":
        raise Refused(require_text(order, "reason", "code"), require_text(order, "reason", "message"))
    return json_response(
        order, 202 if status == "pending" else 201, f"/orders/{require_text(order, 'order_id')}"
    )


def _to_problem(error: MeshError, key: str) -> Problem:
    problem = problem_from_error(error)
    problem.headers = {"Idempotency-Key": key}
    if problem.code in _UNKNOWN_OUTCOME_CODES:
        problem.detail += "; send the order again with the same Idempotency-Key to learn the outcome"
    return problem


@router.get(
    "/orders",
    response_model=responses.PageOfOrders,
    responses=problem_responses("unauthenticated", "forbidden", *BACKEND_PROBLEMS),
)
async def list_orders(
    caller: Caller,
    gateway: GatewayDep,
    context: RequestContext,
    limit: Limit = 50,
    cursor: Cursor = None,
    user_id: Annotated[
        requests.Id | None,
        Query(
            description="The user whose orders are listed: the caller by default, or for an admin any user"
        ),
    ] = None,
) -> Response:
    owner_id = user_id or caller.user_id
    if not caller.may_act_for(owner_id):
        raise Problem("forbidden", "user_id: only an admin may list the orders of another user")
    return json_response(await gateway.orders.page(context, owner_id, limit=limit, cursor=cursor))


@router.get(
    "/orders/{id}",
    response_model=responses.Order,
    responses=problem_responses("unauthenticated", "forbidden", "not-found", *BACKEND_PROBLEMS),
)
async def show_order(caller: Caller, id: OrderId, gateway: GatewayDep, context: RequestContext) -> Response:
    return json_response(await _get_visible_order(caller, id, gateway, context))


@router.post(
    "/orders/{id}/cancel",
    response_model=responses.Order,
    responses=problem_responses("unauthenticated", "forbidden", "not-found", "conflict", *BACKEND_PROBLEMS),
)
async def cancel_order(caller: Caller, id: OrderId, gateway: GatewayDep, context: RequestContext) -> Response:
    """Cancel an order and give its stock back. Cancelling it again changes nothing."""
    await _get_visible_order(caller, id, gateway, context)
    return json_response(await gateway.orders.cancel(context, id))


@router.get(
    "/orders/{id}/events",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"text/event-stream": {}}, "description": "Server-Sent Events named `status`"},
        **problem_responses("unauthenticated", "forbidden", "not-found", *BACKEND_PROBLEMS),
    },
)
async def follow_order(caller: Caller, id: OrderId, gateway: GatewayDep, context: RequestContext) -> Response:
    """Stream the present status of an order, then each change, until the status is final."""
    # Follow before the status is read, so that no change between the two is missed.
    follower = gateway.feed.follow(id)
    try:
        status = require_text(await _get_visible_order(caller, id, gateway, context), "status")
    except BaseException:
        follower.close()
        raise

    async def read_status() -> str:
        return require_text(await gateway.orders.get(gateway.context(context.request_id), id), "status")

    settings = gateway.settings
    return StatusStream(
        status,
        follower,
        read_status,
        heartbeat_seconds=settings.GATEWAY_HEARTBEAT_SECONDS,
        max_seconds=settings.GATEWAY_STREAM_SECONDS,
    )


async def _get_visible_order(caller: Identity, order_id: str, gateway: Gateway, context: CallContext) -> Json:
    """Return an order. Raises Problem "forbidden" when the caller may not see it."""
    order = await gateway.orders.get(context, order_id)
    if not caller.may_act_for(require_text(order, "user", "id")):
        raise Problem("forbidden", "only the customer of this order or an admin may see or cancel the order")
    return order
