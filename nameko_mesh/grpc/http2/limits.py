"""How much of what a client may have. Beyond it there is a clear status, or the end of the connection."""

from __future__ import annotations

import time

from h2.settings import SettingCodes, Settings

MAX_CONNECTIONS = 256
MAX_STREAMS = 100
"""Calls that a connection may have at once, those among them whose client has gone while the work goes on."""
MAX_CALLS = 1000
"""Of all connections together, whether they are worked on or wait for a worker."""
MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""Of one message that comes in, also after it was unpacked."""
MAX_REQUEST_BYTES = 48 * 1024 * 1024
"""Of the messages that are held for all calls together."""
MAX_UNREAD_BYTES = 64 * 1024
"""Of whole messages that a call has not read: beyond it the client may send one window more, then waits."""
MAX_HEADER_BYTES = 16 * 1024
MAX_NUISANCES = 2000
"""Resets, pings, empty frames and refused calls of a connection in NUISANCE_SECONDS: see CVE-2023-44487."""
NUISANCE_SECONDS = 10.0

HANDSHAKE_SECONDS = 5.0
REQUEST_SECONDS = 60.0
"""For the whole of a request that is one message."""
SEND_SECONDS = 30.0
"""A client that takes nothing for so long is gone."""
SILENCE_SECONDS = 60.0
"""A client that was not heard for so long is asked whether it is there, and has as long to answer."""
IDLE_SECONDS = 600.0
"""Without a call, after which a connection makes room for another."""
DRAIN_SECONDS = 20.0
"""For the calls in flight when a service leaves, as long as for those that came by the broker."""
LINGER_SECONDS = 2.0
"""How long a client has to read the last answers and hang up, before it is hung up on."""


class Allowance:
    """An amount of something that is there for the whole process."""

    def __init__(self, amount: int) -> None:
        self.left = amount

    def take(self, amount: int) -> bool:
        """Whether there was so much left."""
        if amount > self.left:
            return False
        self.left -= amount
        return True

    def give_back(self, amount: int) -> None:
        self.left += amount


class Shared:
    """What all connections of a process have together."""

    def __init__(self) -> None:
        self.calls = Allowance(MAX_CALLS)
        self.request_bytes = Allowance(MAX_REQUEST_BYTES)


class Patience:
    """Ends with a client that makes much work for nothing."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._nuisances = 0

    def is_lost(self) -> bool:
        """To be asked once for each nuisance."""
        now = time.monotonic()
        if now - self._since > NUISANCE_SECONDS:
            self._since, self._nuisances = now, 0
        self._nuisances += 1
        return self._nuisances > MAX_NUISANCES


class ServerSettings(Settings):
    """What a client is told. It may go beyond the number of streams before it has read of it: then it is
    refused, not cut off."""

    def __init__(self) -> None:
        told = {
            SettingCodes.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
            SettingCodes.MAX_HEADER_LIST_SIZE: MAX_HEADER_BYTES,
        }
        super().__init__(client=False, initial_values=told)

    @property  # type: ignore[misc]  # nobody sets it
    def max_concurrent_streams(self) -> int:
        return 10 * MAX_STREAMS
