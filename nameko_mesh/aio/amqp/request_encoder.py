"""Encodes Nameko requests as AMQP frames. The constant parts are encoded once."""

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
_RESERVED = frozenset({"call_id_stack", "deadline"})

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
        """Return the frames of one request, ready for the socket. `deadline` is in Unix seconds.

        Raises ValueError for a name of more than 255 bytes, and for headers that do not fit in one frame. A
        context with the client's own headers is a ValueError too.
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
        # A call_id_stack that is not a list crashes every instance of a stock service that receives it.
        if key in _RESERVED:
            raise ValueError(f"a call's context must not contain {key!r}: the client sets it")
        parts += (frames.short(f"nameko.{key}"), frames.value(value))
    return b"".join(parts)
