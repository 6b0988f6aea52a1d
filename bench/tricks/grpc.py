"""`python -m bench.tricks.grpc`: a gRPC response with headers cached and unchecked, beside plain h2.

Each line is the CPU time of one step in microseconds: the plain way, the trick, and their ratio. Both include
the request, for h2 answers a stream once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from nameko_grpc.headers import HeaderManager

from bench.tricks.timing import STEPS, Steps, report
from nameko_mesh.grpc.http2.response_headers import HEADERS, TRAILERS, send_headers

REQUEST = [(":method", "POST"), (":scheme", "http"), (":path", "/a"), (":authority", "b")]
STREAMS = 80
"""Calls of a connection: fewer than the concurrent streams that h2 allows."""


def send_by_h2(conn: H2Connection, stream_id: int, pairs: Iterable[Any], *, end_stream: bool = False) -> None:
    headers = HeaderManager()
    headers.set(*pairs)
    conn.send_headers(stream_id, headers.for_wire, end_stream=end_stream)


def responses(send: Callable[..., None]) -> Steps:
    def steps() -> int:
        for _ in range(STEPS // STREAMS):
            server, client = H2Connection(H2Configuration(client_side=False)), H2Connection()
            server.initiate_connection()
            client.initiate_connection()
            for stream_id in range(1, 2 * STREAMS, 2):
                client.send_headers(stream_id, REQUEST, end_stream=True)
                server.receive_data(client.data_to_send())
                send(server, stream_id, HEADERS)
                server.send_data(stream_id, b"message")
                send(server, stream_id, TRAILERS, end_stream=True)
                server.data_to_send()
        return STEPS

    return steps


def main() -> None:
    report({"http2: a request and its response": (responses(send_by_h2), responses(send_headers))})


if __name__ == "__main__":
    main()
