"""RPC with a circuit breaker for each service, and with retries of repeatable calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

from nameko_mesh.aio.breaker import Breaker
from nameko_mesh.aio.retries import Retries, RetryBudget
from nameko_mesh.errors import DeadlineExceeded, Disconnected, Refused, RemoteFault

MIN_COUNTED_TIMEOUT_SECONDS = 0.5
"""A call with less time than this does not count as a failure when it times out."""


class Rpc(Protocol):
    """An RPC client: `nameko_mesh.aio.RpcClient`, or a double of it."""

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
    """Passes calls to `rpc` while their service responds.

    Behind a queue a dead service looks like a slow service: each call takes all the time of its caller. So a
    call counts as a failure of the service if it had enough time and got no answer. An error of the service
    does not count, because a single caller could then open the breaker for all callers. A broker that is down
    does not count either, because calls then fail at once.
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
        """Call a method. With `may_repeat`, a call is sent again if the connection to the broker was lost.

        `deadline` is in Unix seconds. Raises MeshError.
        """
        attempt = partial(self._call_once, service, method, kwargs, deadline, context)
        return await (self._retries(attempt, deadline) if may_repeat else attempt())

    async def _call_once(
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
        succeeded = None
        try:
            result = await self._rpc.call(service, method, kwargs, deadline=deadline, context=context)
            succeeded = True
            return result
        except (Refused, RemoteFault):
            succeeded = True  # the service responds
            raise
        except DeadlineExceeded:
            succeeded = False if deadline - began >= MIN_COUNTED_TIMEOUT_SECONDS else None
            raise
        finally:
            breaker.end(is_trial, succeeded, time.time() - began)
