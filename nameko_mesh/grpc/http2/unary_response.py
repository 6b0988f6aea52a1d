"""A response of one piece leaves as three frames that are made at once.

For each of its headers h2 checks, encodes and builds anew, which is a seventh of the time of a call that is
alone. Here the blocks of the usual headers are made once, of nothing but literals and entries of the static
table (RFC 7541, sections 6.1 and 6.2.3): they refer to nothing that has left on a connection before, and
nothing refers to them. h2 is told what was sent.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from h2.connection import ConnectionInputs, H2Connection
from h2.stream import StreamInputs
from hpack import Encoder, NeverIndexedHeaderTuple
from nameko_grpc.headers import HeaderManager, sort_headers_for_wire

_USUAL = frozenset({":status", "content-type", "grpc-accept-encoding", "grpc-encoding", "grpc-status"})
_FRAME = struct.Struct(">BHBBI")
_DATA, _HEADERS = 0, 1
_END_STREAM, _END_HEADERS = 1, 4
_SENT = (
    StreamInputs.SEND_HEADERS,
    StreamInputs.SEND_DATA,
    StreamInputs.SEND_HEADERS,
    StreamInputs.SEND_END_STREAM,
)


def room_for(conn: H2Connection, stream_id: int) -> int:
    """How long the data of a whole response may be now."""
    return min(conn.local_flow_control_window(stream_id), conn.max_outbound_frame_size)


def is_usual(headers: Iterable[Any]) -> bool:
    """Whether these headers come again and again: a service's own may be as many as its calls."""
    return all(name in _USUAL for name, _ in headers)


def send(
    conn: H2Connection, stream_id: int, headers: Iterable[Any], data: bytes, trailers: Iterable[Any]
) -> None:
    """Both kinds of headers are usual ones, and there is room for the data. Raises what h2 does."""
    stream = conn._get_stream_by_id(stream_id)
    conn.state_machine.process_input(ConnectionInputs.SEND_HEADERS)
    for sent in _SENT:
        stream.state_machine.process_input(sent)
    stream.outbound_flow_control_window -= len(data)
    conn.outbound_flow_control_window -= len(data)
    # A client that has changed the size of its table is told of it in the next block (section 4.2).
    first = conn.encoder.encode([]) + _block(tuple(map(tuple, headers)))
    last = _block(tuple(map(tuple, trailers)))
    conn._data_to_send += b"".join(
        (
            _head(len(first), _HEADERS, _END_HEADERS, stream_id),
            first,
            _head(len(data), _DATA, 0, stream_id),
            data,
            _head(len(last), _HEADERS, _END_HEADERS | _END_STREAM, stream_id),
            last,
        )
    )


def _head(length: int, kind: int, flags: int, stream_id: int) -> bytes:
    return _FRAME.pack(length >> 16, length & 0xFFFF, kind, flags, stream_id)


@lru_cache(maxsize=64)
def _block(headers: tuple[Any, ...]) -> bytes:
    wire = HeaderManager.encode(sort_headers_for_wire(headers))
    return bytes(Encoder().encode([NeverIndexedHeaderTuple(*header) for header in wire]))
