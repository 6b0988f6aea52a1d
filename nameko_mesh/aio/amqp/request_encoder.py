"""Nameko requests as bytes: what is the same for every call is encoded once."""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct
from typing import Any

from nameko_mesh.amqp import frames

TRANSIENT = b"\x01"

_FLAGS = (
    frames.TYPE
    | frames.ENCODING
    | frames.HEADERS
    | frames.DELIVERY_MODE
    | frames.CORRELATION_ID
    | frames.REPLY_TO
    | frames.EXPIRATION
)
_JSON = frames.short("application/json") + frames.short("utf-8")
_DEADLINE = b"\x0fnameko.deadlined"
_STACK = b"\x14nameko.call_id_stackA"
_OURS = frozenset({"call_id_stack", "deadline"})

_long = Struct("!I")
_double = Struct("!d")


class RequestEncoder:
    """Encodes requests for one channel, one exchange and one reply queue."""

    def __init__(self, channel: int, frame_max: int, exchange: str, reply_to: str) -> None:
        self._channel = channel
        self._frame_max = frame_max
        self._exchange = exchange
        self._reply_to = frames.short(reply_to)

    def encode(
        self,
        routing_key: str,
        body: bytes,
        correlation_id: str,
        call_id: str,
        deadline: float,
        expiration_ms: int,
        context: Mapping[str, Any] | None,
    ) -> bytes:
        """One request, ready for the socket. `deadline` is Unix seconds.

        Raises ValueError for a name of more than 255 bytes, and for headers that fill a whole frame.
        """
        stack_entry = call_id.encode()
        size = len(stack_entry)
        table = b"".join(
            (
                _STACK,
                _long.pack(size + 5),
                b"S",
                _long.pack(size),
                stack_entry,
                _DEADLINE,
                _double.pack(deadline),
            )
        )
        if context:
            table += _context_fields(context)
        properties = b"".join(
            (
                _JSON,
                _long.pack(len(table)),
                table,
                TRANSIENT,
                frames.short(correlation_id),
                self._reply_to,
                frames.short(str(expiration_ms)),
            )
        )
        method = frames.publish(self._channel, self._exchange, routing_key, True)
        return frames.message(self._channel, self._frame_max, method, _FLAGS, properties, body)


def _context_fields(context: Mapping[str, Any]) -> bytes:
    parts: list[bytes] = []
    for key, value in context.items():
        if key in _OURS:  # a call_id_stack that is no list ends every instance of a stock service it reaches
            raise ValueError(f"{key!r} in the context of a call is the client's own")
        parts += (frames.short(f"nameko.{key}"), frames.value(value))
    return b"".join(parts)
