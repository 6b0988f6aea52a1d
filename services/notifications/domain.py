"""The rules of notifications: the mail that an event leads to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """A mail about an event. `id` is the id of the event, so that a repeated event makes no second mail."""

    id: str
    recipient: str
    subject: str
    body: str


def mail_about(event: Mapping[str, Any], total: str) -> Mail:
    """Return the mail about an order_confirmed or order_cancelled event. `total` is a text for people."""
    data = event["data"]
    number = data["order_id"]
    if event["type"] == "order_confirmed":
        subject, opening = (
            f"Your order {number} is confirmed",
            "Thank you for your order. We have confirmed it:",
        )
    else:
        subject, opening = f"Your order {number} is cancelled", "Your order has been cancelled:"
    lines = [f"  {item['quantity']} x {item['name'] or item['product_id']}" for item in data["items"]]
    body = "\n".join(
        [f"Hello {data['name']},", "", opening, "", *lines, *(["", f"Total: {total}"] if total else [])]
    )
    return Mail(id=event["event_id"], recipient=data["email"], subject=subject, body=body + "\n")
