"""When a client is asked whether it is still there, let go, or hung up on. Times are time.monotonic()'s."""

from __future__ import annotations

import time

from nameko_mesh.grpc.http2 import limits


class Keepalive:
    def __init__(self) -> None:
        self.greeted = False
        self._heard_at = self._busy_at = time.monotonic()
        self._asked = False
        self._left_at: float | None = None

    def heard(self) -> None:
        self._heard_at, self._asked = time.monotonic(), False

    def busy(self) -> None:
        self._busy_at = time.monotonic()

    def left(self) -> None:
        """All was said; it is for the client to hang up."""
        self._left_at = time.monotonic()

    def is_lost(self, now: float) -> bool:
        """It does not greet, does not answer, or does not go."""
        silent = now - self._heard_at
        return (
            (not self.greeted and silent > limits.HANDSHAKE_SECONDS)
            or (self._asked and silent > 2 * limits.SILENCE_SECONDS)
            or (self._left_at is not None and now - self._left_at > limits.LINGER_SECONDS)
        )

    def must_ask(self, now: float) -> bool:
        """Says so once for each silence."""
        must = not self._asked and now - self._heard_at > limits.SILENCE_SECONDS
        self._asked |= must
        return must

    def is_idle(self, now: float) -> bool:
        return now - self._busy_at > limits.IDLE_SECONDS
