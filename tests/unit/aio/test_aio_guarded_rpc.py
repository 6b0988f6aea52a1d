"""Limits, breakers and retries of calls over RPC."""

from __future__ import annotations

import asyncio
import time
from functools import partial

import pytest

from nameko_mesh.aio import Breaker, GuardedRpc
from nameko_mesh.aio.guarded_rpc import MIN_COUNTED_TIMEOUT_SECONDS
from nameko_mesh.errors import (
    DeadlineExceeded,
    Disconnected,
    Overloaded,
    Refused,
    RemoteFault,
    Unavailable,
    UnknownService,
)


class FakeRpc:
    def __init__(self):
        self.outcomes = []
        self.calls = []

    async def call(self, service, method, kwargs, *, deadline, context):
        self.calls.append((service, method, dict(kwargs)))
        outcome = self.outcomes.pop(0) if self.outcomes else "an answer"
        if isinstance(outcome, Exception):
            raise outcome
        if isinstance(outcome, asyncio.Event):
            await outcome.wait()
        return outcome


@pytest.fixture
def rpc():
    return FakeRpc()


@pytest.fixture
def guarded(rpc):
    return GuardedRpc(rpc, make_breaker=partial(Breaker, max_in_flight=2, max_failures=3, open_seconds=60))


async def ask(guarded, service="orders", seconds=10.0, **options):
    return await guarded.call(
        service, "get", {"id": 1}, deadline=time.time() + seconds, context={}, **options
    )


async def fail_calls(guarded, rpc, error, times, **options):
    for _ in range(times):
        rpc.outcomes.append(error)
        with pytest.raises(type(error)):
            await ask(guarded, **options)


async def test_silent_service_opens_its_breaker_and_no_other(guarded, rpc):
    await fail_calls(guarded, rpc, DeadlineExceeded("late"), 3)

    with pytest.raises(Unavailable, match="orders: the breaker is open: 3 calls in a row failed"):
        await ask(guarded)
    assert len(rpc.calls) == 3
    assert await ask(guarded, "products") == "an answer"


@pytest.mark.parametrize(
    "error",
    [Refused("not-found", "no"), RemoteFault("Bug", "a secret"), UnknownService("x"), Disconnected("x")],
)
async def test_immediate_errors_do_not_open_the_breaker(guarded, rpc, error):
    await fail_calls(guarded, rpc, error, 10)

    assert await ask(guarded) == "an answer"


async def test_timeouts_of_short_calls_do_not_open_the_breaker(guarded, rpc):
    await fail_calls(guarded, rpc, DeadlineExceeded("late"), 10, seconds=MIN_COUNTED_TIMEOUT_SECONDS / 2)

    assert await ask(guarded) == "an answer"


async def test_slow_service_holds_a_limited_number_of_calls(guarded, rpc):
    go_on = asyncio.Event()
    rpc.outcomes = [go_on, go_on]
    held = [asyncio.create_task(ask(guarded)) for _ in range(2)]
    await asyncio.sleep(0)

    with pytest.raises(Overloaded):
        await ask(guarded)
    assert await ask(guarded, "users") == "an answer"

    go_on.set()
    await asyncio.gather(*held)
    assert await ask(guarded) == "an answer"


async def test_repeatable_call_is_sent_again_after_a_lost_connection(guarded, rpc):
    rpc.outcomes = [Disconnected("the broker went")]

    assert await ask(guarded, may_repeat=True) == "an answer"
    assert rpc.calls == [("orders", "get", {"id": 1})] * 2
    assert guarded.budget.spent == 1


async def test_call_that_may_not_be_repeated_is_never_sent_again(guarded, rpc):
    await fail_calls(guarded, rpc, Disconnected("the broker went"), 1)

    assert len(rpc.calls) == 1


async def test_cancelled_call_frees_its_place(guarded, rpc):
    rpc.outcomes = [asyncio.Event()]
    held = asyncio.create_task(ask(guarded))
    await asyncio.sleep(0)
    held.cancel()
    await asyncio.wait([held])

    assert guarded.breakers["orders"].in_flight == 0
    assert guarded.breakers["orders"].failures == 0
