"""The plain, the async and the threaded form of waiting behave the same."""

from __future__ import annotations

import asyncio
import threading

import pytest

from tests.waiting import eventually, eventually_async, eventually_in_thread


async def plainly(condition, *limits):
    return eventually(condition, *limits)


async def asynchronously(condition, *limits):
    async def ask():
        await asyncio.sleep(0)
        return condition()

    return await eventually_async(ask, *limits)


FORMS = pytest.mark.parametrize(
    "wait", [plainly, eventually_async, asynchronously, eventually_in_thread], ids=lambda form: form.__name__
)


def answers(*prepared):
    """Return a condition that returns these values in turn, or raises those that are exceptions."""
    left = iter(prepared)

    def condition():
        answer = next(left)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return condition


@FORMS
async def test_first_true_answer_is_returned(wait):
    assert await wait(answers(0, None, "yes", "no"), 5) == "yes"


@FORMS
async def test_assertion_in_the_condition_counts_as_not_yet(wait):
    assert await wait(answers(AssertionError("too early"), 1), 5) == 1


@FORMS
async def test_condition_that_stays_false_is_named(wait):
    with pytest.raises(AssertionError, match=r"^the mail: not met within 0\.05 s$"):
        await wait(lambda: False, 0.05, "the mail")


@FORMS
async def test_last_assertion_of_the_condition_is_raised(wait):
    def condition():
        raise AssertionError("2 of 3 are there")

    with pytest.raises(AssertionError, match="2 of 3"):
        await wait(condition, 0.5)


@FORMS
async def test_other_errors_of_the_condition_are_raised_at_once(wait):
    with pytest.raises(TimeoutError, match="its own"):
        await wait(answers(0, TimeoutError("its own")), 5)


async def test_async_condition_that_hangs_is_cancelled():
    with pytest.raises(AssertionError, match="not met"):
        await eventually_async(asyncio.get_running_loop().create_future, 0.05)


async def test_blocking_condition_leaves_the_loop_free():
    set_by_the_loop = threading.Event()
    asyncio.get_running_loop().call_later(0.05, set_by_the_loop.set)
    assert await eventually_in_thread(lambda: set_by_the_loop.wait(5), 5)
