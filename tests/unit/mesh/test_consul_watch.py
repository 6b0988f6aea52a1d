"""Watch and its parsers, without a Consul agent."""

from __future__ import annotations

import json

import pytest

from nameko_mesh.discovery.consul_watch import (
    MAX_BACK_OFF_SECONDS,
    MIN_QUERY_INTERVAL_SECONDS,
    Endpoint,
    InvalidConsulResponse,
    Watch,
    next_index,
    parse_endpoints,
    parse_passing,
)

A, B = Endpoint("10.0.0.1", 50051), Endpoint("10.0.0.2", 50052)


def an_entry(endpoint, **service):
    registered = {
        "ID": f"products-{endpoint.port}",
        "Address": endpoint.host,
        "Port": endpoint.port,
        "Meta": None,
    }
    return {"Node": {"Address": "10.9.9.9"}, "Service": registered | service, "Checks": []}


def respond(watch, *endpoints, index="7"):
    body = json.dumps([an_entry(endpoint) for endpoint in endpoints])
    watch.on_response(200, {"X-Consul-Index": index}, body.encode())


def test_setting_lists_endpoints_separated_by_commas():
    assert parse_endpoints("10.0.0.1:50051, 10.0.0.2:50052,") == (A, B)
    assert str(parse_endpoints("[::1]:80")[0]) == "[::1]:80"
    assert parse_endpoints("") == ()


@pytest.mark.parametrize("text", ["10.0.0.1", ":50051", "host:port", "host:0", "host:65536"])
def test_invalid_address_is_named_in_the_error(text):
    with pytest.raises(ValueError, match=text):
        parse_endpoints(text)


def test_passing_instances_are_sorted_and_default_to_the_node_address():
    body = json.dumps([an_entry(B, Meta={"version": "2"}), an_entry(A), an_entry(A, Address="")])

    first, second, third = parse_passing(body.encode())

    assert (first, second, third) == (A, B, Endpoint("10.9.9.9", 50051))
    assert (second.instance_id, second.meta) == ("products-50052", {"version": "2"})


@pytest.mark.parametrize("body", [b"", b"{", b"5", b"[5]", b"[{}]", b'[{"Service": {}}]', b'{"a": 1}'])
def test_body_without_a_list_of_instances_is_invalid(body):
    with pytest.raises(InvalidConsulResponse):
        parse_passing(body)


@pytest.mark.parametrize(("before", "header", "index"), [(0, "5", 5), (5, "5", 5), (5, "4", 0), (5, "0", 0)])
def test_index_grows_or_restarts_from_zero(before, header, index):
    assert next_index(before, header) == index


@pytest.mark.parametrize("header", [None, "", "-1", "seven"])
def test_index_that_is_no_number_is_invalid(header):
    with pytest.raises(InvalidConsulResponse):
        next_index(0, header)


def test_first_query_returns_at_once_and_later_queries_block():
    watch = Watch("consul:8500", "products", token="secret")
    assert watch.url == "http://consul:8500/v1/health/service/products"
    assert watch.headers == {"X-Consul-Token": "secret"}
    assert watch.params() == {"passing": "1", "stale": ""}

    respond(watch, A, index="7")

    assert watch.params() == {"passing": "1", "stale": "", "index": "7", "wait": "30s"}


def test_each_change_calls_on_change_once():
    changes = []
    watch = Watch("consul:8500", "products", static=(A,), on_change=changes.append)

    for endpoints in ((A,), (A, B), (B, A), (B,)):
        respond(watch, *endpoints)

    assert changes == [(A, B), (B,)]


def test_known_endpoints_survive_an_outage_and_an_empty_list():
    watch = Watch("consul:8500", "products", static=(A,))
    watch.on_failure(OSError("refused"))
    assert watch.endpoints == (A,)

    respond(watch, A, B)
    respond(watch, index="8")
    with pytest.raises(InvalidConsulResponse):
        watch.on_response(500, {}, b"No cluster leader")
    assert watch.endpoints == (A, B)


def test_failure_restarts_the_index_and_backs_off():
    watch = Watch("consul:8500", "products")
    respond(watch, A)
    for _ in range(10):
        watch.on_failure(OSError("refused"))
        assert MIN_QUERY_INTERVAL_SECONDS <= watch.pause_seconds() <= MAX_BACK_OFF_SECONDS

    assert "index" not in watch.params()
    respond(watch, A)
    assert watch.pause_seconds() <= MIN_QUERY_INTERVAL_SECONDS
