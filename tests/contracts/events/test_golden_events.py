"""Every published event against its golden JSON: a changed golden file is a broken promise."""

from __future__ import annotations

import json
from pathlib import Path

import orjson
import pytest

from nameko_mesh.events.schema import sealed, timestamp
from services.orders import events as orders
from services.products import events as products
from services.users import events as users
from tests.builders import NOON

LINE = {"product_id": "P001", "name": "Laptop", "quantity": 2, "unit_price_minor": 120050}
UNPRICED = {"product_id": "P001", "name": None, "quantity": 2, "unit_price_minor": None}
ORDER = {"order_id": "o-1", "user_id": "U001"}
CUSTOMER = {"name": "Alice", "email": "alice@example.com"}
MONEY = {"total_minor": 240100, "currency": "USD"}

EVENTS = [
    products.ProductCreated(product_id="P001", name="Laptop", price_minor=120050, currency="USD", stock=10),
    products.ProductUpdated(product_id="P001", name="Laptop", price_minor=99900, currency="USD"),
    products.StockChanged(product_id="P001", stock=8),
    products.StocksReserved(
        batch_id="b-1", orders=[{**ORDER, "items": [{"product_id": "P001", "quantity": 2}]}]
    ),
    users.UserRegistered(user_id="U001", **CUSTOMER),
    users.UserUpdated(user_id="U001", **CUSTOMER),
    orders.OrderPlaced(**ORDER, status="pending", items=[UNPRICED]),
    orders.OrderConfirmed(**ORDER, status="confirmed", **CUSTOMER, items=[LINE], **MONEY),
    orders.OrderRejected(**ORDER, status="rejected", reason="out-of-stock", message="none left"),
    orders.OrderCancelled(**ORDER, status="cancelled", **CUSTOMER, items=[LINE], **MONEY),
]
HERE = Path(__file__).parent


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: f"{event.TYPE}.v{event.VERSION}")
def test_event_is_encoded_as_its_golden_json(event):
    (envelope,) = sealed([(event, 2)], timestamp(NOON))
    envelope = orjson.loads(orjson.dumps(envelope)) | {"event_id": "e-1"}
    golden = json.loads((HERE / f"{event.TYPE}.v{event.VERSION}.json").read_text())
    assert envelope == golden


def test_every_golden_event_is_still_published():
    known = {f"{event.TYPE}.v{event.VERSION}.json" for event in EVENTS}
    assert {path.name for path in HERE.glob("*.json")} == known
