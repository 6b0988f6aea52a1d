"""The mails about events."""

from __future__ import annotations

from services.notifications.domain import mail_about
from tests.builders import an_order_event


def test_confirmation_names_the_order_its_lines_and_the_total():
    mail = mail_about(an_order_event("order_confirmed"), "2401.00 USD")

    assert mail.recipient == "alice@example.com"
    assert mail.subject == "Your order o-1 is confirmed"
    assert "Hello Alice" in mail.body
    assert "2 x Laptop" in mail.body
    assert "Total: 2401.00 USD" in mail.body


def test_mail_about_an_unpriced_order_has_no_total():
    items = [{"product_id": "P001", "name": None, "quantity": 1, "unit_price_minor": None}]
    mail = mail_about(an_order_event("order_cancelled", items=items, total_minor=None, currency=None), "")

    assert mail.subject == "Your order o-1 is cancelled"
    assert "1 x P001" in mail.body
    assert "Total" not in mail.body


def test_mail_has_the_id_of_its_event():
    event = an_order_event()
    assert mail_about(event, "").id == event["event_id"]
