"""Products. Anyone may read them. Admins create, change and restock them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import StringConstraints
from starlette.responses import Response

from ..auth.tokens import Admin
from ..clients.context import require_text
from ..schemas import requests, responses
from ..web.json_body import JsonBody
from .dependencies import Cursor, GatewayDep, IdempotencyKey, Limit, ProductId, RequestContext, command_id
from .responses import BACKEND_PROBLEMS, BODY_PROBLEMS, json_response, problem_responses

router = APIRouter(tags=["products"])

_new_product = JsonBody[requests.NewProduct](requests.NewProduct)
_changes = JsonBody[requests.ProductChanges](requests.ProductChanges)
_restock = JsonBody[requests.Restock](requests.Restock)

_AGE = {
    "description": "Age of a cached product in seconds, only while the service products is unavailable",
    "schema": {"type": "integer"},
}

Search = Annotated[
    Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{0,100}$")] | None,
    Query(description="Text that the name contains"),
]


@router.get(
    "/products",
    response_model=responses.PageOfProducts,
    responses=problem_responses(*BACKEND_PROBLEMS),
)
async def list_products(
    gateway: GatewayDep,
    context: RequestContext,
    limit: Limit = 50,
    cursor: Cursor = None,
    query: Search = None,
) -> Response:
    return json_response(await gateway.products.page(context, limit=limit, cursor=cursor, query=query))


@router.get(
    "/products/{id}",
    response_model=responses.Product,
    responses={200: {"headers": {"Age": _AGE}}, **problem_responses("not-found", *BACKEND_PROBLEMS)},
)
async def show_product(id: ProductId, gateway: GatewayDep, context: RequestContext) -> Response:
    """Show the product as it is now. While the service products is unavailable, show a recent copy."""
    result = await gateway.products.get(context, id)
    return json_response(result.value, age=result.age)


@router.post(
    "/products",
    status_code=201,
    response_model=responses.Product,
    responses=problem_responses("unauthenticated", "forbidden", "already-exists", *BODY_PROBLEMS),
    openapi_extra=_new_product.openapi,
)
async def create_product(
    caller: Admin,
    key: IdempotencyKey,
    body: Annotated[requests.NewProduct, Depends(_new_product)],
    gateway: GatewayDep,
    context: RequestContext,
) -> Response:
    fields = body.sent_fields()
    if body.id is not None:
        fields["product_id"] = fields.pop("id")
    product = await gateway.products.create(context, command_id(caller, "POST /products", key), fields)
    return json_response(product, 201, f"/products/{require_text(product, 'id')}")


@router.patch(
    "/products/{id}",
    response_model=responses.Product,
    responses=problem_responses("unauthenticated", "forbidden", "not-found", *BODY_PROBLEMS),
    openapi_extra=_changes.openapi,
)
async def change_product(
    caller: Admin,
    id: ProductId,
    key: IdempotencyKey,
    body: Annotated[requests.ProductChanges, Depends(_changes)],
    gateway: GatewayDep,
    context: RequestContext,
) -> Response:
    command = command_id(caller, f"PATCH /products/{id}", key)
    return json_response(await gateway.products.update(context, command, id, body.sent_fields()))


@router.post(
    "/products/{id}/restock",
    response_model=responses.Product,
    responses=problem_responses("unauthenticated", "forbidden", "not-found", *BODY_PROBLEMS),
    openapi_extra=_restock.openapi,
)
async def restock(
    caller: Admin,
    id: ProductId,
    key: IdempotencyKey,
    body: Annotated[requests.Restock, Depends(_restock)],
    gateway: GatewayDep,
    context: RequestContext,
) -> Response:
    """Add to the stock. A restock that is sent again with the same `Idempotency-Key` adds nothing."""
    command = command_id(caller, f"POST /products/{id}/restock", key)
    return json_response(await gateway.products.restock(context, command, id, body.quantity))
