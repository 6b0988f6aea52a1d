"""Decides when to ping a client and when to disconnect, without I/O. Times are of time.monotonic()."""

from __future__ import annotations

import time

from nameko_mesh.grpc.http2 import limits


class Keepalive:
    """The times of the last events of a connection."""

    def __init__(self) -> None:
        self.has_settings = False
        """True once the client has sent its SETTINGS, which complete the HTTP/2 handshake."""
        self._last_received_at = self._last_busy_at = time.monotonic()
        self._has_pinged = False
        self._finished_at: float | None = None

    def on_received(self) -> None:
        self._last_received_at, self._has_pinged = time.monotonic(), False

    def on_busy(self) -> None:
        """Note that the connection has calls."""
        self._last_busy_at = time.monotonic()

    def on_finished(self) -> None:
        """Note that all responses are sent after a GOAWAY. Now the client should close the connection."""
        self._finished_at = time.monotonic()

    def should_hang_up(self, now: float) -> bool:
        """Return True if the client misses the handshake, does not answer a ping, or does not close."""
        silent_seconds = now - self._last_received_at
        return (
            (not self.has_settings and silent_seconds > limits.HANDSHAKE_SECONDS)
            or (self._has_pinged and silent_seconds > 2 * limits.SILENCE_SECONDS)
            or (self._finished_at is not None and now - self._finished_at > limits.LINGER_SECONDS)
        )

    def should_ping(self, now: float) -> bool:
        """Return True once for each period of silence."""
        should = not self._has_pinged and now - self._last_received_at > limits.SILENCE_SECONDS
        self._has_pinged |= should
        return should

    def is_idle(self, now: float) -> bool:
        return now - self._last_busy_at > limits.IDLE_SECONDS
