"""UUIDs as text (RFC 9562). The standard library makes an object of each, and the text of that: five times
the work, for what a service needs several times for each order.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from hashlib import sha1
from uuid import UUID


def random_ids(count: int) -> Iterator[str]:
    """So many of version 4."""
    digits = os.urandom(16 * count).hex()
    for start in range(0, len(digits), 32):
        yield _text(digits[start : start + 32], 4)


def id_of(namespace: UUID, name: str) -> str:
    """The same one for the same name at all times: `str(uuid.uuid5(namespace, name))`."""
    digest = sha1(namespace.bytes + name.encode(), usedforsecurity=False).hexdigest()
    return _text(digest, 5)


def _text(digits: str, version: int) -> str:
    """From 32 hexadecimal digits or more, of which six bits become version and variant."""
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-{version}{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:32]}"
