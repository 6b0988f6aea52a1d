"""The limits of the gRPC server. Beyond a limit, the call gets an error status or the connection ends."""

from __future__ import annotations

import time

from h2.settings import SettingCodes, Settings

MAX_CONNECTIONS = 256
"""Connections of a process."""
MAX_STREAMS = 100
"""Concurrent calls of a connection. A call whose client has gone counts until its work has ended."""
MAX_CALLS = 1000
"""Concurrent calls of all connections, running or waiting for a worker."""
MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""An incoming message, before and after decompression."""
MAX_REQUEST_BYTES = 48 * 1024 * 1024
"""Incoming messages of all calls that are held in memory."""
MAX_UNREAD_BYTES = 64 * 1024
"""Complete, unread messages of a call. A client with more may only fill its flow-control window."""
MAX_HEADER_BYTES = 16 * 1024
"""The headers of a request."""
MAX_NUISANCES = 2000
"""Resets, pings, empty frames and refused calls of a connection within NUISANCE_SECONDS (CVE-2023-44487)."""
NUISANCE_SECONDS = 10.0

HANDSHAKE_SECONDS = 5.0
"""For the TLS handshake, and for the client's SETTINGS."""
REQUEST_SECONDS = 60.0
"""For the complete request of a method that takes one message."""
SEND_SECONDS = 30.0
"""For a client to read some data of a response. Then the client is disconnected."""
SILENCE_SECONDS = 60.0
"""Silence after which a client is pinged. The client has the same time to answer."""
IDLE_SECONDS = 600.0
"""Time without calls after which a client is asked to close, to make room for other connections."""
DRAIN_SECONDS = 20.0
"""For the calls in flight when a service stops. RPC calls over the broker get the same time."""
LINGER_SECONDS = 2.0
"""For a client to read the last responses and to close, before the server closes."""


class Allowance:
    """An amount that the process may use at once, such as bytes or calls."""

    def __init__(self, amount: int) -> None:
        self.left = amount

    def take(self, amount: int) -> bool:
        """Take the amount. Return False and take nothing if less is left."""
        if amount > self.left:
            return False
        self.left -= amount
        return True

    def give_back(self, amount: int) -> None:
        self.left += amount


class SharedLimits:
    """The limits that all connections of a process share."""

    def __init__(self) -> None:
        self.calls = Allowance(MAX_CALLS)
        self.request_bytes = Allowance(MAX_REQUEST_BYTES)


class NuisanceLimit:
    """Counts frames of a connection that cause work without a purpose."""

    def __init__(self) -> None:
        self._period_began_at = time.monotonic()
        self._count = 0

    def is_exceeded_by_one_more(self) -> bool:
        """Count one nuisance. Return True if that exceeds the limit."""
        now = time.monotonic()
        if now - self._period_began_at > NUISANCE_SECONDS:
            self._period_began_at, self._count = now, 0
        self._count += 1
        return self._count > MAX_NUISANCES


class ServerSettings(Settings):
    """The settings that the server announces.

    h2 enforces ten times the announced number of streams. A client may exceed the announced number before it
    has read the settings. The server then refuses the calls, and keeps the connection.
    """

    def __init__(self) -> None:
        announced = {
            SettingCodes.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
            SettingCodes.MAX_HEADER_LIST_SIZE: MAX_HEADER_BYTES,
        }
        super().__init__(client=False, initial_values=announced)

    @property  # type: ignore[misc]  # the setter is not used
    def max_concurrent_streams(self) -> int:
        return 10 * MAX_STREAMS
