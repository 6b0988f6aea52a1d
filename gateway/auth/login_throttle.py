"""A limit on failed logins, by account and by address, against password guessing."""

from __future__ import annotations

import hashlib
import ipaddress
import math
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from nameko_mesh.errors import Refused

from ..web.problems import Problem

_BUCKETS = 4096

_Window = tuple[RateLimitItem, str]
"""A limit, and the bucket that it applies to."""


class LoginThrottle:
    """A moving window of failures for each account and each address.

    Memory is bounded because accounts and addresses are hashed into a fixed number of buckets. A random salt
    keeps an attacker from choosing a name that shares another user's bucket. A login in flight counts as a
    failure until its outcome is known, so that parallel guesses gain nothing.
    """

    def __init__(self, per_account: str, per_address: str, *, instances: int = 1) -> None:
        """The limits, such as "10/minute", are shared by `instances` gateways."""
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._account = _divide(parse(per_account), instances)
        self._address = _divide(parse(per_address), instances)
        self._in_flight: Counter[str] = Counter()
        self._salt = secrets.token_bytes(16)

    @contextmanager
    def attempt(self, account: str, address: str) -> Iterator[None]:
        """Guard one login. A Refused "unauthenticated" raised inside counts as a failure.

        Raises Problem "rate-limited" after too many failures.
        """
        windows = self._windows(account, address)
        for limit, bucket in windows:
            if not self._limiter.test(limit, bucket, cost=self._in_flight[bucket] + 1):
                raise self._rate_limited(limit, bucket)
        with self._counted_in_flight(windows):
            try:
                yield
            except Refused as error:
                if error.slug == "unauthenticated":
                    for limit, bucket in windows:
                        self._limiter.hit(limit, bucket)
                raise

    def _windows(self, account: str, address: str) -> tuple[_Window, _Window]:
        return (
            (self._account, self._bucket("account", account.strip().casefold())),
            (self._address, self._bucket("address", _network(address))),
        )

    @contextmanager
    def _counted_in_flight(self, windows: tuple[_Window, ...]) -> Iterator[None]:
        for _, bucket in windows:
            self._in_flight[bucket] += 1
        try:
            yield
        finally:
            for _, bucket in windows:
                self._in_flight[bucket] -= 1
                if not self._in_flight[bucket]:
                    del self._in_flight[bucket]

    def _rate_limited(self, limit: RateLimitItem, bucket: str) -> Problem:
        reset, _ = self._limiter.get_window_stats(limit, bucket)
        seconds = max(1, math.ceil(reset - time.time()))
        detail = f"too many failed logins; try again in {seconds} s"
        return Problem("rate-limited", detail, headers={"Retry-After": str(seconds)})

    def _bucket(self, kind: str, name: str) -> str:
        digest = hashlib.blake2b(name.encode(), digest_size=4, salt=self._salt).digest()
        return f"{kind}-{int.from_bytes(digest, 'big') % _BUCKETS}"


def _divide(limit: RateLimitItem, instances: int) -> RateLimitItem:
    """Return the limit of one instance: fewer failures in the same time, or one failure in a longer time."""
    if limit.amount >= instances:
        return type(limit)(limit.amount // instances, limit.multiples)
    return type(limit)(1, math.ceil(limit.multiples * instances / limit.amount))


def _network(address: str) -> str:
    """Return the /64 network of an IPv6 address, because a host owns all of it. Return IPv4 unchanged."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 6:
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return address
