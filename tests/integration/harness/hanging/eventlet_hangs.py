"""Tests that hang in an eventlet process, and a working test after them. test_hanging_tests runs them."""

from __future__ import annotations

import queue
import time
from typing import Never

import eventlet
from eventlet import patcher
from eventlet.event import Event


def test_sleep_hangs():
    time.sleep(60)


def test_event_that_nobody_sends_hangs():
    Event().wait()


def test_queue_that_stays_empty_hangs():
    queue.Queue().get()


def test_call_that_blocks_the_whole_process_hangs():
    patcher.original("time").sleep(60)


def test_waiting_beside_a_busy_hub_hangs():
    def tick() -> Never:
        while True:
            eventlet.sleep(0)

    ticking = eventlet.spawn(tick)
    try:
        Event().wait()
    finally:
        ticking.kill()


def test_another_greenlet_that_never_yields_hangs():
    def burn() -> Never:
        while True:
            pass

    eventlet.spawn(burn)
    Event().wait()


def test_hub_still_works_after_the_hanging_tests():
    event = Event()
    eventlet.spawn_after(0.05, event.send, "sent")
    assert event.wait() == "sent"
