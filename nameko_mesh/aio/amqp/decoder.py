"""AMQP 0-9-1 frames from bytes: no socket, no clock.

What every call needs (delivery, header, body) is parsed by hand, several times faster than a
general codec; pamqp reads the rare methods. Whatever breaks the protocol raises ProtocolError, after
which the decoder must not be used again.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from struct import Struct

from pamqp import base, frame
from pamqp.exceptions import UnmarshalingException

from nameko_mesh.amqp.frames import BODY, END, HEADER, HEARTBEAT, METHOD

MAX_BODY_BYTES = 64 * 1024 * 1024
"""Bytes of the longest message that is kept. A longer one is read and dropped: it arrives empty."""

_DELIVER = (60 << 16) | 60
_RETURN = (60 << 16) | 50

_head = Struct("!BHI")
_long = Struct("!I")
_longlong = Struct("!Q")
_short = Struct("!H")
_content_header = Struct("!HHQH")  # class, weight, body size, property flags


class ProtocolError(Exception):
    """The peer sent what AMQP 0-9-1, or what was agreed with it, does not allow."""


class Message:
    """A message that was delivered to us, or one of ours that the broker returned as unroutable."""

    __slots__ = ("body", "correlation_id", "delivery_tag", "returned")

    def __init__(self, delivery_tag: int, returned: bool) -> None:
        self.delivery_tag = delivery_tag
        self.returned = returned
        self.correlation_id = ""
        self.body = b""


Received = base.Frame | Message


class _Content:
    """A message of which parts are still to come."""

    __slots__ = ("chunks", "left", "message", "oversize")

    def __init__(self, message: Message) -> None:
        self.message = message
        self.chunks: list[bytes] = []
        self.left = -1  # before its header came, nobody knows
        self.oversize = False


class Decoder:
    """Turns what a socket gives into methods and whole messages, each with its channel.

    Holds at most one unfinished frame of `frame_max` bytes, and one message of MAX_BODY_BYTES bytes for
    each of `channels`.
    """

    def __init__(self, frame_max: int) -> None:
        self.frame_max = frame_max
        self.channels: set[int] = {0}
        self._rest = b""
        self._unfinished: dict[int, _Content] = {}

    def feed(self, data: bytes) -> Iterator[tuple[int, Received]]:
        """Yields what became complete with `data`. Raises ProtocolError. Run it to its end."""
        if self._rest:
            data = self._rest + data
        start, end = 0, len(data)
        while end - start >= 7:
            kind, channel, size = _head.unpack_from(data, start)
            if kind == 0x41:  # "A": the broker refuses our version by sending its own protocol header
                raise ProtocolError(f"no AMQP 0-9-1 there: {data[start : start + 8]!r}")
            if size + 8 > self.frame_max:
                raise ProtocolError(f"a frame of {size} bytes where {self.frame_max} was agreed")
            stop = start + 7 + size
            if stop >= end:
                break
            if data[stop] != END:
                raise ProtocolError("a frame without its end mark")
            if kind != HEARTBEAT:
                if channel not in self.channels:
                    raise ProtocolError(f"a frame for channel {channel}, which is not open")
                try:
                    item = self._frame(kind, channel, data, start + 7, stop)
                except (struct.error, IndexError, UnicodeDecodeError) as error:
                    raise ProtocolError(f"a frame that cannot be read: {error}") from error
                if item is not None:
                    yield channel, item
            start = stop + 1
        self._rest = data[start:]

    def forget(self, channel: int) -> None:
        """The channel was closed: what had begun to arrive on it never ends."""
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
            raise ProtocolError("content without a method before it")
        if kind == HEADER:
            self._header(content, data, start)
        elif kind == BODY:
            self._body(content, data, start, stop)
        else:
            raise ProtocolError(f"a frame of unknown kind {kind}")
        if content.left:
            return None
        del self._unfinished[channel]
        message = content.message
        if not content.oversize:
            message.body = content.chunks[0] if len(content.chunks) == 1 else b"".join(content.chunks)
        return message

    @staticmethod
    def _header(content: _Content, data: bytes, at: int) -> None:
        if content.left >= 0:
            raise ProtocolError("a second header for one message")
        _, _, content.left, flags = _content_header.unpack_from(data, at)
        content.oversize = content.left > MAX_BODY_BYTES
        at += _content_header.size
        more = flags
        while more & 1:
            (more,) = _short.unpack_from(data, at)
            at += 2
        # The properties come in the order of their flags; those after the correlation id do not matter.
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
        if not 0 < stop - start <= content.left:
            raise ProtocolError("a message longer than its header says")
        content.left -= stop - start
        if not content.oversize:
            content.chunks.append(data[start:stop])


def _method(data: bytes) -> base.Frame:
    try:
        _, _, method = frame.unmarshal(data)
    except (UnmarshalingException, ValueError, TypeError, KeyError) as error:
        raise ProtocolError(f"a method that cannot be read: {error}") from error
    if not isinstance(method, base.Frame):
        raise ProtocolError("a method frame that holds no method")
    return method
