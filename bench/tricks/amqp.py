"""`python -m bench.tricks.amqp`: the tricks of nameko_mesh.amqp and nameko_mesh.rpc beside stock py-amqp
and kombu.

Each line is the CPU time of one step in microseconds: the plain way, the trick, and their ratio. The
transports talk over a socket pair, so the time includes the system calls.
"""

from __future__ import annotations

import eventlet

eventlet.monkey_patch()

import socket  # noqa: E402
import struct  # noqa: E402
from typing import Any  # noqa: E402

import amqp  # noqa: E402
from amqp import serialization, transport  # noqa: E402
from kombu.utils import json as kombu_json  # noqa: E402
from nameko import rpc as stock  # noqa: E402

from bench.tricks.timing import STEPS, Steps, repeat, report  # noqa: E402
from nameko_mesh.amqp import frames, publish  # noqa: E402
from nameko_mesh.amqp.serialization import _dumps, _loads  # noqa: E402
from nameko_mesh.amqp.transport import _TCPTransport  # noqa: E402
from nameko_mesh.rpc.entrypoint import _Signature  # noqa: E402

HEADERS = {"nameko.call_id_stack": ["gateway.1", "orders.2"], "nameko.deadline": 1763900000.25}
PROPERTIES = {"content_type": "application/json", "content_encoding": "utf-8", "correlation_id": "c" * 36}
BODY = kombu_json.dumps({"args": [], "kwargs": {"items": [{"id": f"P{n:03}", "count": n} for n in range(5)]}})


def messages_and_acks(cls: type) -> Steps:
    """Read the three frames of each of 40 deliveries, as many as a prefetch allows, then ack each."""
    method, header, body = b"m" * 60, b"h" * 120, BODY.encode()
    delivery = b"".join(
        struct.pack(">BHI", kind, 1, len(payload)) + payload + b"\xce"
        for kind, payload in ((1, method), (2, header), (3, body))
    )

    def steps() -> int:
        ours, broker = socket.socketpair()
        wire = cls("nowhere:1")
        wire.sock = ours
        wire._setup_transport()
        wire.connected = True
        for _ in range(STEPS // 40):
            broker.sendall(delivery * 40)
            for number in range(40):
                for _ in range(3):
                    wire.read_frame()
                wire.write(frames.ack(1, number))
            eventlet.sleep(0)
            broker.recv(65536)
        ours.close()
        broker.close()
        return STEPS

    return steps


class Silent:
    """A connection whose transport drops what is written."""

    frame_max = 131072
    transport: Any

    def __init__(self) -> None:
        self.transport = self

    def write(self, data: bytes) -> None:
        pass


class Sender:
    channel_id = 1
    connection = Silent()


def send() -> None:
    options = {**PROPERTIES, "reply_to": "r" * 36, "expiration": "1500", "headers": HEADERS}
    publish.send(Sender, BODY.encode(), exchange="nameko-rpc", routing_key="orders.place", **options)


def send_with_py_amqp() -> None:
    properties = {**PROPERTIES, "reply_to": "r" * 36, "expiration": "1500", "application_headers": HEADERS}
    message = amqp.Message(BODY, delivery_mode=1, **properties)
    serialization.dumps("Bssbb", (0, "nameko-rpc", "orders.place", True, False))
    message._serialize_properties()


class Target:
    def method(self, *, order_id: str, items: list[Any], note: str = "") -> None:
        """Take arguments as an entrypoint does."""


def main() -> None:
    written = amqp.Message(**PROPERTIES, application_headers=HEADERS)._serialize_properties()
    entrypoint = stock.Rpc()
    entrypoint.container = type("Container", (), {"service_cls": Target})
    entrypoint.method_name = "method"
    signature = _Signature(Target.method)
    arguments = {"order_id": "o-1", "items": []}
    report(
        {
            "transport: a delivery and its ack": (
                messages_and_acks(transport.TCPTransport),
                messages_and_acks(_TCPTransport),
            ),
            "frames: send a message": (repeat(send_with_py_amqp), repeat(send)),
            "frames: read properties": (
                repeat(lambda: serialization.decode_properties_basic(written, 0)),
                repeat(lambda: frames.read_properties(written, 0)),
            ),
            "serialization: dump and load": (
                repeat(lambda: kombu_json.loads(kombu_json.dumps(kombu_json.loads(BODY)))),
                repeat(lambda: _loads(_dumps(_loads(BODY)))),
            ),
            "rpc: check the arguments": (
                repeat(lambda: entrypoint.check_signature((), arguments)),
                repeat(lambda: signature.certainly_accepts((), arguments)),
            ),
        }
    )


if __name__ == "__main__":
    main()
