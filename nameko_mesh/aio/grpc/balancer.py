"""Calls a gRPC service directly, at whichever of its instances has less to do.

    accounts = Balancer("accounts")
    accounts.update(parse_endpoints("10.0.0.1:50051,10.0.0.2:50051"))     # or what Discovery finds
    answer = await accounts.call(GET_ACCOUNT, request, deadline=..., may_repeat=True)
    await accounts.stop()

The less loaded of two random choices spreads load nearly as well as knowing the least loaded of all, and
unlike that never sends everybody to the same one (M. Mitzenmacher, "The Power of Two Choices in
Randomized Load Balancing", 2001).
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
    """No instance is connected, or all that are have to be left alone. Nothing was sent."""


def _is_transient(error: BaseException) -> bool:
    return isinstance(error, Unavailable | DeadlineExceeded) and not isinstance(
        error, NoInstance | Overloaded
    )


class Balancer:
    """Belongs to one event loop. `make_breaker` bounds and breaks the calls to one instance.

    A call that may be repeated waits `patience` seconds for an instance as long as there is another one
    to ask; then, or when the connection breaks, it is sent to that one. Any other call is sent once; only
    gRPC itself sends it again, when the server never began with it.
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
        self._retries = Retries(self.budget, _is_transient, at_once=True)
        self._instances: dict[Endpoint, Instance] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    @property
    def instances(self) -> list[Instance]:
        return list(self._instances.values())

    def update(self, endpoints: Iterable[Endpoint]) -> None:
        """From now on these are the instances. Those that go may end what is in flight."""
        wanted = dict.fromkeys(endpoints)
        for endpoint in [known for known in self._instances if known not in wanted]:
            leaving = asyncio.create_task(
                self._instances.pop(endpoint).close(), name=f"goodbye to {endpoint}"
            )
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)
        for endpoint in wanted:
            if endpoint not in self._instances:
                self._instances[endpoint] = Instance(endpoint, self._make_breaker(str(endpoint)))

    async def stop(self) -> None:
        """Waits for what is in flight, for some seconds at most."""
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
        """`deadline` is Unix seconds; `context` reaches the service as Nameko's context data.

        Raises NoInstance when nobody can be asked; MeshError for what came of it.
        """
        metadata = [(f"x-nameko-{name}", json.dumps(value)) for name, value in (context or {}).items()]
        asked: list[Instance] = []

        async def ask() -> Response:
            instance, another = self._choose(asked)
            asked.append(instance)
            left = deadline - time.time()
            if left <= 0:
                raise DeadlineExceeded(f"{self.service}: the deadline had passed before it was sent")
            seconds = min(left, self._patience) if may_repeat and another else left
            return await instance.call(method, request, seconds=seconds, metadata=metadata)

        return await (self._retries(ask, deadline) if may_repeat else ask())

    def _choose(self, asked: list[Instance]) -> tuple[Instance, bool]:
        """One of those that were not asked yet, and whether there is another."""
        able = [
            instance
            for instance in self._instances.values()
            if instance.is_ready and instance.breaker.refusal is None and instance not in asked
        ]
        if not able:
            raise NoInstance(f"none of the {len(self._instances)} instances of {self.service} can be asked")
        if len(able) == 1:
            return able[0], False
        one, other = random.sample(able, 2)  # in any order, so that equals are chosen equally often
        return (other if other.breaker.in_flight < one.breaker.in_flight else one), True
