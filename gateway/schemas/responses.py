"""Bodies of responses, for the OpenAPI document only: the gateway passes on the results of the services."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel


class FieldError(BaseModel):
    field: str
    message: str


class Problem(BaseModel):
    """An error (RFC 9457). Programs read `code`, which is stable. People read `detail`."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    instance: str | None = None
    errors: list[FieldError] | None = None


class Token(BaseModel):
    access_token: str
    token_type: Literal["bearer"]
    expires_in: int
    """Seconds."""


class Product(BaseModel):
    id: str
    name: str
    price: float
    """The price for display. Programs calculate with `price_minor`."""
    price_minor: int
    currency: str
    stock: int
    version: int | None = None


class User(BaseModel):
    id: str
    name: str
    email: str
    role: Literal["user", "admin"]
    version: int | None = None
    created_at: str | None = None


class Customer(BaseModel):
    id: str
    name: str | None
    email: str | None


class ProductOfLine(BaseModel):
    id: str
    name: str | None


class LineOfOrder(BaseModel):
    product: ProductOfLine
    quantity: int
    unit_price_minor: int | None
    line_total_minor: int | None


class Reason(BaseModel):
    code: str
    message: str
    field: str | None = None


class Order(BaseModel):
    """An order. Its prices and totals are null while it is pending."""

    order_id: str
    status: Literal["pending", "confirmed", "rejected", "cancelled"]
    user: Customer
    items: list[LineOfOrder]
    total_price: float | None
    total_minor: int | None
    currency: str | None
    created_at: str
    reason: Reason | None = None


class PageOfProducts(BaseModel):
    items: list[Product]
    next_cursor: str | None


class PageOfOrders(BaseModel):
    items: list[Order]
    next_cursor: str | None


class Health(BaseModel):
    status: Literal["ok", "ready"]
