"""Bodies of requests: strict models that refuse unknown fields.

No model has a field for arbitrary JSON. So `{"__type__": ...}`, a command to kombu's decoder, never reaches a
service.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    EmailStr,
    Field,
    StringConstraints,
    Tag,
    model_validator,
)

ID = r"^[A-Za-z0-9._:-]{1,64}$"
MAX_EMAIL_LENGTH = 254
MAX_PASSWORD_LENGTH = 128
MAX_LINES = 100
MAX_QUANTITY = 1_000_000
MAX_PRICE_MINOR = 10**12
"""The highest price: ten thousand million in a currency with two decimals."""


def _printable(text: str) -> str:
    if not text.isprintable() or not text.strip():
        raise ValueError("expected printable text that is not blank")
    return text


Id = Annotated[str, StringConstraints(pattern=ID)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_printable)]
Password = Annotated[str, StringConstraints(min_length=8, max_length=MAX_PASSWORD_LENGTH)]
Email = Annotated[EmailStr, Field(max_length=MAX_EMAIL_LENGTH)]
Quantity = Annotated[int, Field(ge=1, le=MAX_QUANTITY)]
Price = Annotated[int, Field(ge=0, le=MAX_PRICE_MINOR)]
Stock = Annotated[int, Field(ge=0, le=MAX_QUANTITY)]
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]


class Request(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    def sent_fields(self) -> dict[str, Any]:
        """Return the fields that the client sent, without null fields."""
        return self.model_dump(exclude_unset=True, exclude_none=True)


class _Changes(Request):
    @model_validator(mode="after")
    def _changes_something(self) -> _Changes:
        if not self.sent_fields():
            raise ValueError(f"expected at least one of {', '.join(type(self).model_fields)}")
        return self


class Line(Request):
    product_id: Id
    quantity: Quantity


class OrderOfLines(Request):
    """An order of one or more products. Lines of the same product are added up."""

    items: Annotated[list[Line], Field(min_length=1, max_length=MAX_LINES)]
    user_id: Id | None = None

    def lines(self) -> list[dict[str, Any]]:
        return [{"product_id": line.product_id, "quantity": line.quantity} for line in self.items]


class OrderOfOne(Request):
    """The short form, for an order of one product."""

    product_id: Id
    quantity: Quantity
    user_id: Id | None = None

    def lines(self) -> list[dict[str, Any]]:
        return [{"product_id": self.product_id, "quantity": self.quantity}]


def _union_tag(body: Any) -> str:
    is_short_form = (
        isinstance(body, dict) and "items" not in body and ("product_id" in body or "quantity" in body)
    )
    return "short" if is_short_form else "lines"


PlaceOrder = Annotated[
    Annotated[OrderOfLines, Tag("lines")] | Annotated[OrderOfOne, Tag("short")], Discriminator(_union_tag)
]


class NewUser(Request):
    name: Name
    email: Email
    password: Password


class UserChanges(_Changes):
    name: Name | None = None
    email: Email | None = None
    password: Password | None = None


class NewProduct(Request):
    id: Id | None = None
    name: Name
    price_minor: Price
    currency: Currency = "USD"
    stock: Stock


class ProductChanges(_Changes):
    name: Name | None = None
    price_minor: Price | None = None


class Restock(Request):
    quantity: Quantity
