"""The bytes of gRPC messages that wait to be read or sent."""

from __future__ import annotations

import struct

from nameko_grpc.streams import ByteBuffer

PREFIX = struct.Struct(">BI")
"""Precedes each message: 1 if the message is compressed, otherwise 0, and the message's length in bytes."""


class MessageBuffer(ByteBuffer):
    """nameko-grpc's buffer, whose `read` does not copy the rest of the buffer."""

    def read(self, max_bytes: int | None = None) -> bytes:
        with memoryview(self.bytes) as view:
            data = bytes(view[:max_bytes])
        del self.bytes[: len(data)]  # slicing the rest would copy it
        return data
