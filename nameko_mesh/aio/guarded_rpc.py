"""RPC with a bound and a breaker for each service, and a second try for what may be repeated."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

from nameko_mesh.aio.breaker import Breaker
from nameko_mesh.aio.retries import Retries, RetryBudget
from nameko_mesh.errors import DeadlineExceeded, Disconnected, Refused, RemoteFault

MIN_COUNTED_TIMEOUT_SECONDS = 0.5
"""A service that was given less time than this and did not answer has not failed."""


class Rpc(Protocol):
    """Anything that calls as `nameko_mesh.aio.RpcClient` does."""

    async def call(
        self,
        service: str,
        method: str,
        kwargs: Mapping[str, Any],
        *,
        deadline: float,
        context: Mapping[str, str],
    ) -> Any: ...


class GuardedRpc:
    """Lets calls through to `rpc` as long as their service answers.

    Behind a queue a service that is dead looks like one that is slow: each call costs its caller all the
    time it has. So what counts against a service is a call that was given a fair time and had no answer;
    not an error of the service, with which a single caller could close it for everybody, and not a broker
    that is away, which is told at once anyway.
    """

    def __init__(
        self,
        rpc: Rpc,
        *,
        budget: RetryBudget | None = None,
        make_breaker: Callable[[str], Breaker] = Breaker,
    ) -> None:
        self.breakers: dict[str, Breaker] = {}
        self.budget = budget or RetryBudget()
        self._rpc = rpc
        self._make_breaker = make_breaker
        self._retries = Retries(self.budget, lambda error: isinstance(error, Disconnected))

    async def call(
        self,
        service: str,
        method: str,
        kwargs: Mapping[str, Any],
        *,
        deadline: float,
        context: Mapping[str, str],
        may_repeat: bool = False,
    ) -> Any:
        """Raises MeshError. What `may_repeat` is sent again when the connection to the broker broke."""
        ask = partial(self._ask, service, method, kwargs, deadline, context)
        return await (self._retries(ask, deadline) if may_repeat else ask())

    async def _ask(
        self,
        service: str,
        method: str,
        kwargs: Mapping[str, Any],
        deadline: float,
        context: Mapping[str, str],
    ) -> Any:
        breaker = self.breakers.get(service)
        if breaker is None:
            breaker = self.breakers[service] = self._make_breaker(service)
        is_trial = breaker.begin()
        began = time.time()
        given = deadline - began
        succeeded = None
        try:
            answer = await self._rpc.call(service, method, kwargs, deadline=deadline, context=context)
            succeeded = True
            return answer
        except (Refused, RemoteFault):
            succeeded = True  # it answers
            raise
        except DeadlineExceeded:
            succeeded = False if given >= MIN_COUNTED_TIMEOUT_SECONDS else None
            raise
        finally:
            breaker.end(is_trial, succeeded, time.time() - began)
