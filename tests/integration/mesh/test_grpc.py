"""gRPC entrypoints against grpcio's own client."""

import socket
from collections.abc import Callable
from typing import Any

import eventlet
import pytest

from mesh.grpc import GrpcServer
from tests.integration.mesh.grpc_shop import Shop
from tests.waiting import eventually


def test_many_calls_at_once_on_one_connection(called: Callable[[str], Any]) -> None:
    assert called("many_at_once")


def test_messages_have_a_limit_packed_and_unpacked(called: Callable[[str], Any]) -> None:
    too_large = "RESOURCE_EXHAUSTED"
    assert called("large_messages") == [5_000_000, 5_000_000, too_large, too_large, "still there"]


def test_a_stream_comes_whole_and_in_order(called: Callable[[str], Any]) -> None:
    assert called("a_stream")


def test_who_does_not_read_makes_the_service_wait(called: Callable[[str], Any]) -> None:
    first, produced, got = called("a_client_that_does_not_read")
    assert (first, got) == (0, 1000)
    assert produced < 500  # grpcio itself takes some tens of megabytes of the hundred


def test_a_deadline_ends_the_call_and_travels_on(called: Callable[[str], Any]) -> None:
    assert called("deadlines") == ["DEADLINE_EXCEEDED", True, True]


def test_a_call_that_waited_for_its_turn_past_its_deadline_is_not_executed(
    called: Callable[[str], Any], shop: Any
) -> None:
    shop._worker_pool.resize(1)
    assert called("late_in_the_queue") == [["DEADLINE_EXCEEDED"] * 5, "slow", "patient"]
    assert Shop.entered == ["connected", "slow", "patient"]


def test_a_cancelled_stream_ends_its_worker(called: Callable[[str], Any], shop: Any) -> None:
    assert called("a_cancelled_stream") == "still there"
    eventually(lambda: not shop._worker_threads)


def test_unknown_methods_and_broken_ones(called: Callable[[str], Any]) -> None:
    assert called("nobody") == ["UNIMPLEMENTED", "INTERNAL"]


def test_a_call_in_flight_is_answered_before_the_service_leaves(
    called: Callable[[str], Any], shop: Any, port: int
) -> None:
    calling = eventlet.spawn(called, "until_goodbye")
    eventually(lambda: "slow" in Shop.entered)
    shop.stop()
    assert calling.wait() == "slow"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)


def test_a_client_that_speaks_no_http2_harms_nobody(
    called: Callable[[str], Any], shop: Any, port: int
) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 10)
        while stranger.recv(1000):
            """Until it is hung up on."""
    assert called("a_stream")
    (server,) = [one for one in shop.extensions if isinstance(one, GrpcServer)]
    eventually(lambda: not server.channel.conn_pool._connections)
