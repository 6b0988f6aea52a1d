"""What is made of Consul's answers, without Consul."""

from __future__ import annotations

import json

import pytest

from nameko_mesh.discovery.consul_watch import (
    LEAST_SECONDS,
    LONGEST_BACK_OFF,
    Endpoint,
    NotTheCatalogue,
    Watch,
    next_index,
    parse_endpoints,
    parse_passing,
)

A, B = Endpoint("10.0.0.1", 50051), Endpoint("10.0.0.2", 50052)


def an_entry(endpoint, **service):
    told = {"ID": f"products-{endpoint.port}", "Address": endpoint.host, "Port": endpoint.port, "Meta": None}
    return {"Node": {"Address": "10.9.9.9"}, "Service": told | service, "Checks": []}


def tell(watch, *endpoints, index="7"):
    watch.answered(200, {"X-Consul-Index": index}, json.dumps([an_entry(one) for one in endpoints]).encode())


def test_addresses_are_read_from_a_setting():
    assert parse_endpoints("10.0.0.1:50051, 10.0.0.2:50052,") == (A, B)
    assert str(parse_endpoints("[::1]:80")[0]) == "[::1]:80"
    assert parse_endpoints("") == ()


@pytest.mark.parametrize("written", ["10.0.0.1", ":50051", "host:port", "host:0", "host:65536"])
def test_what_is_no_address_is_named(written):
    with pytest.raises(ValueError, match=written):
        parse_endpoints(written)


def test_instances_come_in_one_order_and_a_service_without_address_is_at_its_node():
    body = json.dumps([an_entry(B, Meta={"version": "2"}), an_entry(A), an_entry(A, Address="")])

    first, second, third = parse_passing(body.encode())

    assert (first, second, third) == (A, B, Endpoint("10.9.9.9", 50051))
    assert (second.instance_id, second.meta) == ("products-50052", {"version": "2"})


@pytest.mark.parametrize("body", [b"", b"{", b"5", b"[5]", b"[{}]", b'[{"Service": {}}]', b'{"a": 1}'])
def test_what_is_no_list_of_instances_is_refused(body):
    with pytest.raises(NotTheCatalogue):
        parse_passing(body)


@pytest.mark.parametrize(("before", "told", "index"), [(0, "5", 5), (5, "5", 5), (5, "4", 0), (5, "0", 0)])
def test_the_index_goes_forward_or_begins_anew(before, told, index):
    assert next_index(before, told) == index


@pytest.mark.parametrize("told", [None, "", "-1", "seven"])
def test_an_index_is_a_number(told):
    with pytest.raises(NotTheCatalogue):
        next_index(0, told)


def test_the_first_question_is_answered_at_once_and_the_next_ones_wait_for_news():
    watch = Watch("consul:8500", "products", token="secret")
    assert watch.url == "http://consul:8500/v1/health/service/products"
    assert watch.headers == {"X-Consul-Token": "secret"}
    assert watch.params() == {"passing": "1", "stale": ""}

    tell(watch, A, index="7")

    assert watch.params() == {"passing": "1", "stale": "", "index": "7", "wait": "30s"}


def test_each_change_is_told_once():
    changes = []
    watch = Watch("consul:8500", "products", static=(A,), on_change=changes.append)

    for endpoints in ((A,), (A, B), (B, A), (B,)):
        tell(watch, *endpoints)

    assert changes == [(A, B), (B,)]


def test_the_last_known_ones_stay_while_consul_is_away_or_knows_nobody():
    watch = Watch("consul:8500", "products", static=(A,))
    watch.failed(OSError("refused"))
    assert watch.endpoints == (A,)

    tell(watch, A, B)
    tell(watch, index="8")
    with pytest.raises(NotTheCatalogue):
        watch.answered(500, {}, b"No cluster leader")
    assert watch.endpoints == (A, B)


def test_after_a_failure_it_asks_anew_and_backs_off():
    watch = Watch("consul:8500", "products")
    tell(watch, A)
    for _ in range(10):
        watch.failed(OSError("refused"))
        assert LEAST_SECONDS <= watch.pause() <= LONGEST_BACK_OFF

    assert "index" not in watch.params()
    tell(watch, A)
    assert watch.pause() <= LEAST_SECONDS
