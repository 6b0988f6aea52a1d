"""A response of one piece leaves as three frames that are made at once.

For each of its headers h2 checks, encodes and builds anew, which is a seventh of the time of a call that is
alone. Here a block of headers is made once, of nothing but literals and entries of the static table (RFC
7541, sections 6.1 and 6.2.3): what has left on a connection before, or leaves after it, does not matter. h2
is told what was sent.
"""

from __future__ import annotations

import struct
from functools import lru_cache

from h2.connection import ConnectionInputs, H2Connection
from h2.stream import StreamInputs
from h2.utilities import HeaderValidationFlags, normalize_outbound_headers, validate_outbound_headers
from hpack import Encoder, NeverIndexedHeaderTuple
from nameko_grpc.headers import HeaderManager, sort_headers_for_wire

Headers = tuple[tuple[str, str | bytes], ...]

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


def send(conn: H2Connection, stream_id: int, headers: Headers, data: bytes, trailers: Headers) -> bool:
    """Send it whole, or not at all if a block of its headers is too long for a frame. Raises what h2 does."""
    first, last = _block(headers, is_trailer=False), _block(trailers, is_trailer=True)
    if max(len(first), len(last)) > conn.max_outbound_frame_size:
        return False
    stream = conn._get_stream_by_id(stream_id)
    conn.state_machine.process_input(ConnectionInputs.SEND_HEADERS)
    for sent in _SENT:
        stream.state_machine.process_input(sent)
    stream.outbound_flow_control_window -= len(data)
    conn.outbound_flow_control_window -= len(data)
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
    return True


def _head(length: int, kind: int, flags: int, stream_id: int) -> bytes:
    return _FRAME.pack(length >> 16, length & 0xFFFF, kind, flags, stream_id)


@lru_cache(maxsize=256)
def _block(headers: Headers, *, is_trailer: bool) -> bytes:
    """Raises ProtocolError for what no header may be."""
    flags = HeaderValidationFlags(
        is_client=False, is_trailer=is_trailer, is_response_header=not is_trailer, is_push_promise=False
    )
    wire = HeaderManager.encode(sort_headers_for_wire(headers))
    checked = validate_outbound_headers(normalize_outbound_headers(wire, flags, False), flags)
    return bytes(Encoder().encode([NeverIndexedHeaderTuple(*header) for header in checked]))
