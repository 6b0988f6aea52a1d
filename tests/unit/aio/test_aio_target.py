"""The bound and the breaker of one target, without anything to call."""

from __future__ import annotations

import asyncio

import pytest

from nameko_mesh.aio.breaker import Target
from nameko_mesh.errors import Overloaded, Unavailable


def ask(target, went_well):
    target.end(target.begin(), went_well)


def opened(rest):
    target = Target("it", failures=3, rest=rest)
    for _ in range(3):
        ask(target, False)
    return target


async def has_rested(target):
    async with asyncio.timeout(5):
        while target.refusal:  # noqa: ASYNC110 - time passes, nobody tells
            await asyncio.sleep(0.005)


def test_it_opens_after_so_many_failures_in_a_row():
    target = Target("it", failures=3)
    for went_well in (False, False, True, False, None, False):
        ask(target, went_well)
    assert target.state == "closed"

    ask(target, False)

    assert target.state == "open"
    with pytest.raises(Unavailable, match="it: 3 calls in a row"):
        target.begin()
    assert (target.calls, target.failures, target.in_flight) == (7, 5, 0)


@pytest.mark.parametrize(("went_well", "state"), [(True, "closed"), (False, "open")])
async def test_when_it_has_rested_one_call_decides(went_well, state):
    target = opened(rest=0.02)
    await has_rested(target)

    is_probe = target.begin()

    assert (is_probe, target.state) == (True, "half-open")
    with pytest.raises(Unavailable):
        target.begin()
    target.end(is_probe, went_well)
    assert target.state == state


async def test_a_probe_that_was_given_up_decides_nothing():
    target = opened(rest=0.02)
    await has_rested(target)
    target.end(target.begin(), None)

    assert target.state == "open"
    assert target.begin() is True


async def test_what_began_before_it_opened_is_old_news():
    target = Target("it", failures=1, rest=0.02)
    late = [target.begin() for _ in range(3)]
    ask(target, False)
    await has_rested(target)
    is_probe = target.begin()

    for call in late:
        target.end(call, True)

    assert target.state == "half-open"
    target.end(is_probe, False)
    assert target.state == "open"


def test_only_so_many_calls_are_in_flight():
    target = Target("it", most=2)
    calls = [target.begin(), target.begin()]

    with pytest.raises(Overloaded, match="2 calls are in flight"):
        target.begin()

    target.end(calls.pop(), True)
    assert target.begin() is False
