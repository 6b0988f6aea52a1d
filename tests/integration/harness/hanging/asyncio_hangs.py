"""Tests that hang in an asyncio process, and a working test after them. test_hanging_tests runs them."""

from __future__ import annotations

import asyncio
import time


def test_sleep_outside_a_loop_hangs():
    time.sleep(60)


async def test_sleep_hangs():
    await asyncio.sleep(60)


async def test_future_that_nobody_sets_hangs():
    await asyncio.get_running_loop().create_future()


async def test_call_that_blocks_the_loop_hangs():
    time.sleep(60)  # noqa: ASYNC251 - it has to hang


async def test_loop_that_is_always_busy_hangs():
    while True:  # noqa: ASYNC110 - it has to hang
        await asyncio.sleep(0)


async def test_loop_still_works_after_the_hanging_tests():
    assert await asyncio.sleep(0.05, "slept") == "slept"
