"""Calls a gRPC service at the less loaded of its instances.

    accounts = Balancer("accounts")
    accounts.update(parse_endpoints("10.0.0.1:50051,10.0.0.2:50051"))     # or what Discovery finds
    account = await accounts.call(GET_ACCOUNT, request, deadline=..., may_repeat=True)
    await accounts.stop()

Each call goes to the less loaded of two instances that are chosen at random. That spreads the load nearly as
well as the least loaded of all would. It never sends all clients to the same instance (M. Mitzenmacher, "The
Power of Two Choices in Randomized Load Balancing", 2001).
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from nameko_mesh.aio.breaker import Breaker
from nameko_mesh.aio.grpc.instance import Instance, Method, Request, Response
from nameko_mesh.aio.retries import Retries, RetryBudget
from nameko_mesh.discovery.consul_watch import Endpoint
from nameko_mesh.errors import DeadlineExceeded, Overloaded, Unavailable


class NoInstance(Unavailable):
    """No instance is usable: each is disconnected, or its breaker refuses the call. Nothing was sent."""


def _is_transient(error: BaseException) -> bool:
    return isinstance(error, Unavailable | DeadlineExceeded) and not isinstance(
        error, NoInstance | Overloaded
    )


class Balancer:
    """Calls the instances of one service. Belongs to one event loop.

    `make_breaker` makes the breaker of an instance. A repeatable call waits `patience` seconds for an
    instance, if there is another instance. Then, or when the connection breaks, the call is sent to the other
    instance. A call that is not repeatable is sent once, except that gRPC itself repeats a call that the
    server has not started.
    """

    def __init__(
        self,
        service: str,
        *,
        patience: float = 0.3,
        budget: RetryBudget | None = None,
        make_breaker: Callable[[str], Breaker] = Breaker,
    ) -> None:
        self.service = service
        self.budget = budget or RetryBudget()
        self._patience = patience
        self._make_breaker = make_breaker
        self._retries = Retries(self.budget, _is_transient, without_wait=True)
        self._instances: dict[Endpoint, Instance] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    @property
    def instances(self) -> list[Instance]:
        return list(self._instances.values())

    def update(self, endpoints: Iterable[Endpoint]) -> None:
        """Replace the instances. A removed instance finishes its calls in flight."""
        wanted = dict.fromkeys(endpoints)
        for endpoint in [known for known in self._instances if known not in wanted]:
            leaving = asyncio.create_task(self._instances.pop(endpoint).close(), name=f"closing {endpoint}")
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)
        for endpoint in wanted:
            if endpoint not in self._instances:
                self._instances[endpoint] = Instance(endpoint, self._make_breaker(str(endpoint)))

    async def stop(self) -> None:
        """Remove all instances and wait for their calls in flight, for at most CLOSE_TIMEOUT_SECONDS."""
        self.update(())
        if self._leaving:
            await asyncio.wait(self._leaving)

    async def call(
        self,
        method: Method[Request, Response],
        request: Request,
        *,
        deadline: float,
        context: Mapping[str, Any] | None = None,
        may_repeat: bool = False,
    ) -> Response:
        """Call a method. `context` reaches the service as Nameko's context data.

        `deadline` is in Unix seconds. Raises NoInstance if no instance is usable, and the error of the call.
        """
        metadata = [(f"x-nameko-{name}", json.dumps(value)) for name, value in (context or {}).items()]
        tried: list[Instance] = []

        async def attempt() -> Response:
            instance, has_alternative = self._choose(tried)
            tried.append(instance)
            seconds_left = deadline - time.time()
            if seconds_left <= 0:
                raise DeadlineExceeded(f"{self.service}: the deadline had passed before the call was sent")
            seconds = min(seconds_left, self._patience) if may_repeat and has_alternative else seconds_left
            return await instance.call(method, request, seconds=seconds, metadata=metadata)

        return await (self._retries(attempt, deadline) if may_repeat else attempt())

    def _choose(self, tried: list[Instance]) -> tuple[Instance, bool]:
        """Return an instance that was not tried yet, and True if there is another."""
        usable = [
            instance
            for instance in self._instances.values()
            if instance.is_ready and instance.breaker.refusal is None and instance not in tried
        ]
        if not usable:
            raise NoInstance(f"none of the {len(self._instances)} instances of {self.service} is usable")
        if len(usable) == 1:
            return usable[0], False
        first, second = random.sample(usable, 2)  # in random order: equals are chosen equally often
        return min(first, second, key=lambda instance: instance.breaker.in_flight), True
