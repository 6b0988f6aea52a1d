"""AMQP URIs in the forms that Nameko's users write."""

from __future__ import annotations

import pytest

from nameko_mesh.aio import parse_addresses
from nameko_mesh.aio.amqp.address import Address


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("amqp://", Address()),
        ("pyamqp://guest:guest@localhost", Address()),
        ("pyamqp://guest:guest@127.0.0.1:25672//", Address(host="127.0.0.1", port=25672)),
        ("amqp://me:secret@broker/shop", Address("broker", 5672, "me", "secret", "shop")),
        ("amqps://broker", Address("broker", 5671, tls=True)),
        ("amqp://broker/%2Fshop%2Fa", Address("broker", vhost="/shop/a")),
        ("amqp://broker/%2F", Address("broker", vhost="/")),
        ("amqp://a%40b:p%3A%2F%23@broker", Address("broker", user="a@b", password="p:/#")),
        ("amqp://me:@broker", Address("broker", user="me", password="")),
        ("amqp://[::1]:5673", Address("::1", 5673)),
        ("amqp://broker?heartbeat=7", Address("broker", heartbeat=7)),
        ("amqp://broker?heartbeat=0", Address("broker", heartbeat=0)),
    ],
)
def test_uri_names_a_broker(uri: str, address: Address) -> None:
    assert parse_addresses(uri) == [address]


def test_several_brokers_keep_their_order() -> None:
    assert [address.host for address in parse_addresses("amqp://a; amqp://b;amqps://c")] == ["a", "b", "c"]


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "broker",
        "http://u:hush@broker",
        "amqp://u:hush@broker:nine",
        "amqp://u:hush@broker:70000",
        "amqp://u:hush@broker?heartbeat=often",
    ],
)
def test_invalid_uri_is_refused_without_showing_its_password(uri: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        parse_addresses(uri)

    assert "hush" not in str(caught.value)


def test_password_never_appears_in_a_log_line() -> None:
    (address,) = parse_addresses("amqp://me:hush@broker")

    assert "hush" not in f"{address} {address!r}"
