"""What the gateways see, put together."""

from __future__ import annotations

import http.server
import threading

import httpx
import pytest

from mycelium.diagnostics.instances import QUEUE, list_instances
from mycelium.servers import free_port

ONE = """\
# TYPE gateway_target_calls counter
gateway_target_calls_total{service="orders",instance=""} 7
# TYPE gateway_target_failures counter
gateway_target_failures_total{service="orders",instance=""} 1
# TYPE gateway_target_seconds counter
gateway_target_seconds_total{service="orders",instance=""} 0.5
# TYPE gateway_target_calls_in_flight gauge
gateway_target_calls_in_flight{service="orders",instance=""} 1
# TYPE gateway_target_ready gauge
gateway_target_ready{service="products",instance="127.0.0.1:1"} 1
# TYPE gateway_breaker gauge
gateway_breaker{service="orders",instance="",state="closed"} 0
gateway_breaker{service="orders",instance="",state="open"} 1
gateway_breaker{service="orders",instance="",state="half-open"} 0
"""
OTHER = (
    ONE.replace("} 7", "} 5")
    .replace('"127.0.0.1:1"} 1', '"127.0.0.1:1"} 0')
    .replace('"closed"} 0', '"closed"} 1')
    .replace('"open"} 1', '"open"} 0')
)


@pytest.fixture
def gateways():
    """Where the two of them tell."""

    class Told(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write((ONE if self.path == "/one" else OTHER).encode())

        def log_message(self, *_):
            """To nobody."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Told) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield [f"http://127.0.0.1:{server.server_port}/{name}" for name in ("one", "other")]
        server.shutdown()
        thread.join()


def test_calls_are_added_up_and_the_worst_state_is_shown(gateways):
    seen = {(one.service, one.instance): one for one in list_instances(None, None, ",".join(gateways))}

    orders = seen["orders", QUEUE]
    assert (orders.calls, orders.failed, orders.in_flight, orders.breaker) == (12, 2, 2, "open")
    assert orders.mean_ms == 100.0
    assert seen["products", "127.0.0.1:1"].connected is False


@pytest.mark.parametrize("number", [0, 1])
def test_a_single_one_is_shown_as_it_is(gateways, number):
    seen = {(one.service, one.instance): one for one in list_instances(None, None, gateways[number])}

    assert seen["orders", QUEUE].calls == (7, 5)[number]
    assert seen["orders", QUEUE].breaker == ("open", "closed")[number]
    assert seen["products", "127.0.0.1:1"].connected is (True, False)[number]


def test_one_that_does_not_answer_leaves_the_others_figures(gateways):
    gone = f"http://127.0.0.1:{free_port()}/metrics"

    seen = {(one.service, one.instance): one for one in list_instances(None, None, f"{gone}, {gateways[0]},")}

    assert seen["orders", QUEUE].calls == 7
    assert seen["gateway", gone].checks == "no answer"
    with pytest.raises(httpx.ConnectError):
        list_instances(None, None, f"{gone},{gone}")
