"""The metrics of several gateways, merged into one list of instances."""

from __future__ import annotations

import http.server
import threading

import httpx
import pytest

from mycelium.diagnostics.instances import QUEUE, list_instances
from mycelium.servers import free_port

FIRST = """\
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
SECOND = (
    FIRST.replace("} 7", "} 5")
    .replace('"127.0.0.1:1"} 1', '"127.0.0.1:1"} 0')
    .replace('"closed"} 0', '"closed"} 1')
    .replace('"open"} 1', '"open"} 0')
)


@pytest.fixture
def gateways():
    """Return the metrics URLs of two gateways."""

    class MetricsHandler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write((FIRST if self.path == "/first" else SECOND).encode())

        def log_message(self, *_):
            """Keep the test's output clean."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), MetricsHandler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield [f"http://127.0.0.1:{server.server_port}/{name}" for name in ("first", "second")]
        server.shutdown()
        thread.join()


def test_merged_metrics_sum_calls_and_keep_the_worst_state(gateways):
    instances = {(row.service, row.instance): row for row in list_instances(None, None, ",".join(gateways))}

    orders = instances["orders", QUEUE]
    assert (orders.calls, orders.failed, orders.in_flight, orders.breaker) == (12, 2, 2, "open")
    assert orders.mean_ms == 100.0
    assert instances["products", "127.0.0.1:1"].connected is False


@pytest.mark.parametrize("number", [0, 1])
def test_metrics_of_one_gateway_are_shown_unchanged(gateways, number):
    instances = {(row.service, row.instance): row for row in list_instances(None, None, gateways[number])}

    assert instances["orders", QUEUE].calls == (7, 5)[number]
    assert instances["orders", QUEUE].breaker == ("open", "closed")[number]
    assert instances["products", "127.0.0.1:1"].connected is (True, False)[number]


def test_silent_gateway_is_listed_and_leaves_the_other_figures(gateways):
    gone = f"http://127.0.0.1:{free_port()}/metrics"

    instances = {
        (row.service, row.instance): row for row in list_instances(None, None, f"{gone}, {gateways[0]},")
    }

    assert instances["orders", QUEUE].calls == 7
    assert instances["gateway", gone].checks == "no answer"
    with pytest.raises(httpx.ConnectError):
        list_instances(None, None, f"{gone},{gone}")
