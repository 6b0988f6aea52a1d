"""The circuit breaker and its limit on concurrent calls, without anything to call."""

from __future__ import annotations

import pytest

from nameko_mesh.aio import Breaker
from nameko_mesh.aio.breaker import Circuit
from nameko_mesh.errors import Overloaded, Unavailable
from tests.waiting import eventually_async


def make_call(breaker, succeeded):
    breaker.end(breaker.begin(), succeeded)


def open_breaker(open_seconds):
    breaker = Breaker("it", max_failures=3, open_seconds=open_seconds)
    for _ in range(3):
        make_call(breaker, False)
    return breaker


async def trial_is_allowed(breaker):
    await eventually_async(lambda: not breaker.refusal, 5, "a trial call")


CASES = [
    # The circuit opens after two failures in a row, for 10 seconds.
    # Steps: the second, what happens, the state after it.
    ("closed at first", []),
    ("success keeps it closed", [(0, "succeeds", "closed")]),
    ("one failure keeps it closed", [(0, "fails", "closed")]),
    ("two failures in a row open it", [(0, "fails", "closed"), (1, "fails", "open")]),
    ("success between failures", [(0, "fails", "closed"), (1, "succeeds", "closed"), (2, "fails", "closed")]),
    (
        "unknown outcome changes nothing",
        [(0, "fails", "closed"), (1, "ends", "closed"), (2, "fails", "open")],
    ),
    ("open refuses calls", [(0, "fails", "closed"), (0, "fails", "open"), (9.9, "is refused", "open")]),
    (
        "trial closes it",
        [(0, "fails", "closed"), (0, "fails", "open"), (10, "succeeds", "closed"), (10, "fails", "closed")],
    ),
    (
        "failed trial opens it again",
        [(0, "fails", "closed"), (0, "fails", "open"), (10, "fails", "open"), (19.9, "is refused", "open")],
    ),
    (
        "trial without an outcome is repeated",
        [(0, "fails", "closed"), (0, "fails", "open"), (10, "ends", "open"), (10, "succeeds", "closed")],
    ),
    (
        "one trial at a time",
        [
            (0, "fails", "closed"),
            (0, "fails", "open"),
            (10, "begins", "half-open"),
            (11, "is refused", "half-open"),
        ],
    ),
]
SUCCEEDED = {"succeeds": True, "fails": False, "ends": None}


@pytest.mark.parametrize("steps", [steps for _, steps in CASES], ids=[name for name, _ in CASES])
def test_circuit_changes_its_state_by_the_outcome_of_calls(steps):
    circuit = Circuit(max_failures=2, open_seconds=10)
    assert circuit.state == "closed"

    for now, action, state in steps:
        assert circuit.allows_call(now) is (action != "is refused"), (now, action)
        if action != "is refused":
            is_trial = circuit.begin()
            if action != "begins":
                circuit.end(is_trial, SUCCEEDED[action], now)
        assert circuit.state == state, (now, action)


def test_breaker_opens_after_failures_in_a_row():
    breaker = Breaker("it", max_failures=3)
    for succeeded in (False, False, True, False, None, False):
        make_call(breaker, succeeded)
    assert breaker.state == "closed"

    make_call(breaker, False)

    assert breaker.state == "open"
    with pytest.raises(Unavailable, match="it: the breaker is open: 3 calls in a row failed"):
        breaker.begin()
    assert (breaker.calls, breaker.failures, breaker.in_flight) == (7, 5, 0)


@pytest.mark.parametrize(("succeeded", "state"), [(True, "closed"), (False, "open")])
async def test_after_a_pause_one_trial_call_decides(succeeded, state):
    breaker = open_breaker(open_seconds=0.02)
    await trial_is_allowed(breaker)

    is_trial = breaker.begin()

    assert (is_trial, breaker.state) == (True, "half-open")
    with pytest.raises(Unavailable):
        breaker.begin()
    breaker.end(is_trial, succeeded)
    assert breaker.state == state


async def test_cancelled_trial_call_decides_nothing():
    breaker = open_breaker(open_seconds=0.02)
    await trial_is_allowed(breaker)
    breaker.end(breaker.begin(), None)

    assert breaker.state == "open"
    assert breaker.begin() is True


async def test_outcome_of_a_call_from_before_opening_is_ignored():
    breaker = Breaker("it", max_failures=1, open_seconds=0.02)
    early_calls = [breaker.begin() for _ in range(3)]
    make_call(breaker, False)
    await trial_is_allowed(breaker)
    is_trial = breaker.begin()

    for call in early_calls:
        breaker.end(call, True)

    assert breaker.state == "half-open"
    breaker.end(is_trial, False)
    assert breaker.state == "open"


def test_calls_beyond_the_limit_are_refused_until_one_ends():
    breaker = Breaker("it", max_in_flight=2)
    calls = [breaker.begin(), breaker.begin()]

    with pytest.raises(Overloaded, match="2 calls are in flight"):
        breaker.begin()

    breaker.end(calls.pop(), True)
    assert breaker.begin() is False
