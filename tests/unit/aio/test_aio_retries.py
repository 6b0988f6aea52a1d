"""Retries: which errors, how often, and until when."""

from __future__ import annotations

import time

import pytest

from nameko_mesh.aio import RetryBudget
from nameko_mesh.aio.retries import MAX_ATTEMPTS, Retries


class Flaky:
    """An operation that fails `failures` times and then succeeds."""

    def __init__(self, failures, error=ConnectionError):
        self.calls = 0
        self._failures = failures
        self._error = error

    async def __call__(self):
        self.calls += 1
        if self.calls <= self._failures:
            raise self._error
        return "an answer"


def retries(**options):
    return Retries(RetryBudget(**options), lambda error: isinstance(error, ConnectionError))


def soon():
    return time.time() + 10


async def test_transient_error_is_retried():
    operation = Flaky(MAX_ATTEMPTS - 1)

    assert await retries()(operation, soon()) == "an answer"
    assert operation.calls == MAX_ATTEMPTS


async def test_last_error_is_raised_after_the_last_attempt():
    operation = Flaky(MAX_ATTEMPTS)

    with pytest.raises(ConnectionError):
        await retries()(operation, soon())
    assert operation.calls == MAX_ATTEMPTS


async def test_permanent_error_is_not_retried():
    operation = Flaky(1, LookupError)

    with pytest.raises(LookupError):
        await retries()(operation, soon())
    assert operation.calls == 1


async def test_no_attempt_begins_after_the_deadline():
    operation = Flaky(1)

    with pytest.raises(ConnectionError):
        await retries()(operation, time.time())
    assert operation.calls == 1


async def test_retries_are_a_tenth_of_the_calls_when_all_fail():
    budget = RetryBudget(reserve=2)
    retry = Retries(budget, lambda error: True, without_wait=True)
    operations = []
    for _ in range(100):
        operation = Flaky(1000)
        operations.append(operation)
        with pytest.raises(ConnectionError):
            await retry(operation, soon())

    assert budget.spent == sum(operation.calls for operation in operations) - 100
    assert 10 <= budget.spent <= 12
