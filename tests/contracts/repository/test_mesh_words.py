"""nameko_mesh names no word of the shop, because other teams are to use it alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

_MESH = Path(__file__).parents[3] / "nameko_mesh"
_SHOP_WORDS = {
    *("cart", "currency", "customer", "customers", "mail", "mails", "email", "emails", "notifications"),
    *("orders", "price", "prices", "product", "products", "reservation", "reservations", "shop"),
    *("stock", "stocks", "users"),
}
_ORDER_OF_THE_SHOP = re.compile(
    r"order_(?!by\b)[a-z]|OrderI?[A-Z]|\b(an|each|every|this) order\b|place_orders?"
)
_ALLOWED = [
    re.compile(r"import (rpc|events|entrypoint) as stock$"),
    re.compile(r"\bstock\.[A-Z]\w+"),  # a class of the module that is imported under this name
    re.compile(
        r"\bstock (Nameko|py-amqp|kombu|nameko-grpc|service|dispatcher|handler|listener|client|ones)", re.I
    ),
    re.compile(r'"product": "\w+"'),  # a client property of AMQP
]


def shop_words(line: str) -> set[str]:
    """Return the words of the shop in a line of code or prose; `order` as in sequence is none."""
    for pattern in _ALLOWED:
        line = pattern.sub("", line)
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", line)
    words = {word.lower() for word in re.findall(r"[A-Za-z]+", spaced)} & _SHOP_WORDS
    return words | {match.group() for match in _ORDER_OF_THE_SHOP.finditer(line)}


def mesh_files() -> list[Path]:
    return [path for path in _MESH.rglob("*") if path.suffix in (".py", ".sql", ".mako")]


def test_mesh_names_no_word_of_the_shop():
    found = [
        f"{path.relative_to(_MESH.parent)}:{number}: {', '.join(sorted(words))}"
        for path in mesh_files()
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if (words := shop_words(line))
    ]
    assert len(mesh_files()) > 50
    assert found == []


@pytest.mark.parametrize(
    "line",
    ["order_id = 1", "class OrderPlaced", "def stock_of", "products.get", "an e-mail"],
)
def test_line_of_the_shop_is_found(line):
    assert shop_words(line)


@pytest.mark.parametrize(
    "line",
    [
        "in the order of their arrival",
        "ORDER BY number",
        "from nameko import rpc as stock",
        "Stock Nameko acks",
    ],
)
def test_line_about_sequence_or_stock_nameko_is_allowed(line):
    assert shop_words(line) == set()
