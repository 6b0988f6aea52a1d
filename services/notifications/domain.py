"""What the customer is told, and in which words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Mail:
    """One mail for one event; `id` is the event's, so that the same event never makes a second one."""

    id: str
    recipient: str
    subject: str
    body: str


def mail_about(event: Mapping[str, Any], total: str) -> Mail:
    """The mail for an order_confirmed or order_cancelled event; `total` is in words for people."""
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
