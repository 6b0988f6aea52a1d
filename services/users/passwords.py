"""Password hashes: argon2id, by the argon2-cffi library and its recommended parameters (RFC 9106).

A hash takes tens of milliseconds of one core on purpose, so it is computed in eventlet's thread
pool: the service goes on answering meanwhile.
"""

from __future__ import annotations

import os

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError
from eventlet import tpool
from eventlet.semaphore import Semaphore

_hasher = PasswordHasher()
_cores = Semaphore(max(1, (os.cpu_count() or 1) - 1))
"""A burst of log-ins waits here, not in the thread pool, which databases need too."""
_NOBODY = _hasher.hash("the password of nobody")


def hash_password(password: str) -> str:
    with _cores:
        return str(tpool.execute(_hasher.hash, password))


def matches(password_hash: str | None, password: str) -> bool:
    """Whether the password is right. Takes as long for a user who does not exist."""
    try:
        with _cores:
            tpool.execute(_hasher.verify, password_hash or _NOBODY, password)
    except VerificationError:
        return False
    return password_hash is not None
