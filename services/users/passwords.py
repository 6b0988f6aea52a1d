"""Password hashes: argon2id, by the argon2-cffi library and its recommended parameters (RFC 9106).

A hash takes tens of milliseconds of a core, on purpose. It is computed in eventlet's thread pool, so that the
service answers other calls meanwhile.
"""

from __future__ import annotations

import os

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError
from eventlet import tpool
from eventlet.semaphore import Semaphore

_hasher = PasswordHasher()
_cores = Semaphore(max(1, (os.cpu_count() or 1) - 1))
"""Bounds the hashes at one time, because databases need the thread pool too."""
_UNKNOWN_USER = _hasher.hash("the password of an unknown user")


def hash_password(password: str) -> str:
    with _cores:
        return str(tpool.execute(_hasher.hash, password))


def matches(password_hash: str | None, password: str) -> bool:
    """Tell whether the password is right. An unknown user (no hash) takes as long as a known user."""
    try:
        with _cores:
            tpool.execute(_hasher.verify, password_hash or _UNKNOWN_USER, password)
    except VerificationError:
        return False
    return password_hash is not None
