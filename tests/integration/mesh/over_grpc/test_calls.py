"""gRPC entrypoints against grpcio's own client."""

import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import eventlet
import pytest
from nameko.extensions import DependencyProvider

from nameko_mesh.grpc import Grpc
from protos import product_pb2 as pb
from protos.product_pb2_grpc import ProductServiceStub
from tests.waiting import eventually

grpc = Grpc.implementing(ProductServiceStub)
SLOW_SECONDS = 1.0


class TimeLeft(DependencyProvider):
    def get_dependency(self, worker_ctx: Any) -> float:
        return float(worker_ctx.data.get("deadline", 0)) - time.time()


class Shop:
    name = "shop"
    left = TimeLeft()
    produced = 0
    entered: list[str] = []

    @grpc
    def GetProduct(self, request: pb.ProductRequest, context: Any) -> pb.ProductResponse:
        self.entered.append(request.product_id[:20])
        stock = 0
        match request.product_id:
            case "slow":
                eventlet.sleep(SLOW_SECONDS)
            case "how long":
                stock = int(self.left)
            case "produced":
                stock = Shop.produced
            case "broken":
                raise LookupError("with a secret")
        return pb.ProductResponse(id=request.product_id, stock=stock)

    @grpc
    def ListProducts(self, request: pb.ListProductsRequest, context: Any) -> Iterator[pb.ProductResponse]:
        Shop.produced = 0
        number, _, size = request.query.partition(" of ")
        for stock in range(int(number)):
            Shop.produced += 1
            yield pb.ProductResponse(id="P", name="x" * int(size), stock=stock)


@pytest.fixture
def shop(start: Callable[..., Any]) -> Any:
    Shop.entered.clear()
    return start(Shop)


@pytest.fixture
def called(shop: Any, program: Callable[..., Any]) -> Callable[[str], Any]:
    """Run a scenario in the client's process and return its output."""
    return lambda scenario: program("caller.py", f"127.0.0.1:{shop.server.bound_port}", scenario)


def test_many_concurrent_calls_share_one_connection(called: Callable[[str], Any]) -> None:
    assert called("many_at_once")


def test_message_limit_holds_before_and_after_decompression(called: Callable[[str], Any]) -> None:
    too_large = "RESOURCE_EXHAUSTED"
    assert called("large_messages") == [5_000_000, 5_000_000, too_large, too_large, "still there"]


def test_stream_arrives_complete_and_in_order(called: Callable[[str], Any]) -> None:
    assert called("a_stream")


def test_client_that_does_not_read_makes_the_service_wait(called: Callable[[str], Any]) -> None:
    first, produced, got = called("a_client_that_does_not_read")
    assert (first, got) == (0, 1000)
    assert produced < 500  # grpcio itself takes some tens of megabytes of the hundred


def test_deadline_ends_the_call_and_reaches_the_next_service(called: Callable[[str], Any]) -> None:
    assert called("deadlines") == ["DEADLINE_EXCEEDED", True, True]


def test_call_that_waits_beyond_its_deadline_is_not_executed(called: Callable[[str], Any], shop: Any) -> None:
    shop._worker_pool.resize(1)
    assert called("late_in_the_queue") == [["DEADLINE_EXCEEDED"] * 5, "slow", "patient"]
    assert Shop.entered == ["connected", "slow", "patient"]


def test_cancelled_stream_ends_its_worker(called: Callable[[str], Any], shop: Any) -> None:
    assert called("a_cancelled_stream") == "still there"
    eventually(lambda: not shop._worker_threads)


def test_unknown_and_failing_methods_get_their_status(called: Callable[[str], Any]) -> None:
    assert called("nobody") == ["UNIMPLEMENTED", "INTERNAL"]


def test_call_in_flight_is_answered_before_the_service_stops(called: Callable[[str], Any], shop: Any) -> None:
    calling = eventlet.spawn(called, "until_goodbye")
    eventually(lambda: "slow" in Shop.entered)
    shop.stop()
    assert calling.wait() == "slow"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", shop.server.bound_port), timeout=1)


def test_client_without_http2_disturbs_no_other(called: Callable[[str], Any], shop: Any) -> None:
    with socket.create_connection(("127.0.0.1", shop.server.bound_port), timeout=5) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 10)
        while stranger.recv(1000):
            """Read until the server closes the connection."""
    assert called("a_stream")
    eventually(lambda: not shop.server.listener.connections)
