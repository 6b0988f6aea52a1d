"""Decodes AMQP 0-9-1 frames, without a socket and a clock.

Every call needs deliveries, headers and bodies. They are parsed by hand, because that is several times faster
than a general codec (figures: aio/amqp/__init__.py). pamqp decodes the rare methods. A violation of the
protocol raises ProtocolError. The decoder must not be used after that.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from struct import Struct

from pamqp import base, frame
from pamqp.exceptions import UnmarshalingException

from nameko_mesh.amqp.frames import BODY, END, HEADER, HEARTBEAT, METHOD

MAX_BODY_BYTES = 64 * 1024 * 1024
"""The longest message that is kept. The body of a longer message is dropped: the message arrives empty."""

_DELIVER = (60 << 16) | 60
_RETURN = (60 << 16) | 50

_head = Struct("!BHI")
_long = Struct("!I")
_longlong = Struct("!Q")
_short = Struct("!H")
_content_header = Struct("!HHQH")  # class, weight, body size, property flags


class ProtocolError(Exception):
    """The broker has sent data that AMQP 0-9-1, or the agreement at login, does not allow."""


class Message:
    """A delivered message, or a published message that the broker returned as unroutable."""

    __slots__ = ("body", "correlation_id", "delivery_tag", "returned")

    def __init__(self, delivery_tag: int, returned: bool) -> None:
        self.delivery_tag = delivery_tag
        self.returned = returned
        self.correlation_id = ""
        self.body = b""


Received = base.Frame | Message


class _Content:
    """A message that has not arrived completely."""

    __slots__ = ("bytes_left", "chunks", "message", "oversize")

    def __init__(self, message: Message) -> None:
        self.message = message
        self.chunks: list[bytes] = []
        self.bytes_left = -1  # unknown until the header has arrived
        self.oversize = False


class Decoder:
    """Turns bytes from a socket into methods and complete messages, each with its channel number.

    Holds at most one incomplete frame of `frame_max` bytes, and one message of MAX_BODY_BYTES for each of
    the open `channels`.
    """

    def __init__(self, frame_max: int) -> None:
        self.frame_max = frame_max
        self.channels: set[int] = {0}
        self._rest = b""
        self._unfinished: dict[int, _Content] = {}

    def feed(self, data: bytes) -> Iterator[tuple[int, Received]]:
        """Yield the methods and messages that `data` completes. Raises ProtocolError.

        Iterate to the end, or data is lost.
        """
        if self._rest:
            data = self._rest + data
        start, end = 0, len(data)
        while end - start >= 7:
            kind, channel, size = _head.unpack_from(data, start)
            if kind == 0x41:  # "A": a broker that refuses version 0-9-1 sends its own protocol header
                raise ProtocolError(f"the peer does not speak AMQP 0-9-1: {data[start : start + 8]!r}")
            if size + 8 > self.frame_max:
                raise ProtocolError(f"a frame of {size} bytes, where at most {self.frame_max} were agreed")
            stop = start + 7 + size
            if stop >= end:
                break
            if data[stop] != END:
                raise ProtocolError("a frame without an end octet")
            if kind != HEARTBEAT:
                if channel not in self.channels:
                    raise ProtocolError(f"a frame for channel {channel}, which is not open")
                try:
                    received = self._frame(kind, channel, data, start + 7, stop)
                except (struct.error, IndexError, UnicodeDecodeError) as error:
                    raise ProtocolError(f"an unreadable frame: {error}") from error
                if received is not None:
                    yield channel, received
            start = stop + 1
        self._rest = data[start:]

    def forget(self, channel: int) -> None:
        """Drop the incomplete message of a channel that was closed."""
        self.channels.discard(channel)
        self._unfinished.pop(channel, None)

    def _frame(self, kind: int, channel: int, data: bytes, start: int, stop: int) -> Received | None:
        if kind == METHOD:
            if channel in self._unfinished:
                raise ProtocolError("a method in the middle of a message")
            (index,) = _long.unpack_from(data, start)
            if index == _DELIVER:
                (tag,) = _longlong.unpack_from(data, start + 5 + data[start + 4])
                self._unfinished[channel] = _Content(Message(tag, False))
                return None
            if index == _RETURN:
                self._unfinished[channel] = _Content(Message(0, True))
                return None
            return _method(data[start - 7 : stop + 1])
        content = self._unfinished.get(channel)
        if content is None:
            raise ProtocolError("content without a preceding method")
        if kind == HEADER:
            self._header(content, data, start)
        elif kind == BODY:
            self._body(content, data, start, stop)
        else:
            raise ProtocolError(f"a frame of unknown kind {kind}")
        if content.bytes_left:
            return None
        del self._unfinished[channel]
        message = content.message
        if not content.oversize:
            message.body = content.chunks[0] if len(content.chunks) == 1 else b"".join(content.chunks)
        return message

    @staticmethod
    def _header(content: _Content, data: bytes, at: int) -> None:
        if content.bytes_left >= 0:
            raise ProtocolError("a second header for one message")
        _, _, content.bytes_left, flags = _content_header.unpack_from(data, at)
        content.oversize = content.bytes_left > MAX_BODY_BYTES
        at += _content_header.size
        more = flags
        while more & 1:
            (more,) = _short.unpack_from(data, at)
            at += 2
        # The properties come in the order of their flags. Those after the correlation id are not needed.
        if flags & 0x8000:  # content type
            at += 1 + data[at]
        if flags & 0x4000:  # content encoding
            at += 1 + data[at]
        if flags & 0x2000:  # headers
            at += 4 + int(_long.unpack_from(data, at)[0])
        at += (flags >> 12 & 1) + (flags >> 11 & 1)  # delivery mode, priority
        if flags & 0x0400:
            content.message.correlation_id = data[at + 1 : at + 1 + data[at]].decode()

    @staticmethod
    def _body(content: _Content, data: bytes, start: int, stop: int) -> None:
        if not 0 < stop - start <= content.bytes_left:
            raise ProtocolError("a message longer than its header says")
        content.bytes_left -= stop - start
        if not content.oversize:
            content.chunks.append(data[start:stop])


def _method(data: bytes) -> base.Frame:
    try:
        _, _, method = frame.unmarshal(data)
    except (UnmarshalingException, ValueError, TypeError, KeyError) as error:
        raise ProtocolError(f"an unreadable method: {error}") from error
    if not isinstance(method, base.Frame):
        raise ProtocolError("a method frame without a method")
    return method
