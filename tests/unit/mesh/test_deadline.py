"""deadline: the time that is left for the work in hand."""

from __future__ import annotations

import time

import eventlet
import pytest

from nameko_mesh import deadline


@pytest.fixture
def in_thread():
    """Run a function in a green thread of its own, which starts without a deadline."""
    return lambda function: eventlet.spawn(function).wait()


def test_work_without_a_deadline_has_the_whole_limit(in_thread):
    assert in_thread(lambda: (deadline.remaining(5.0), deadline.expired(), deadline.current())) == (
        5.0,
        False,
        None,
    )


@pytest.mark.parametrize(("seconds", "least", "most"), [(60, 5.0, 5.0), (2, 1.5, 2.0), (-1, 0.0, 0.0)])
def test_remaining_time_ends_at_the_deadline_and_at_the_limit(in_thread, seconds, least, most):
    def remaining():
        deadline.start(time.time() + seconds)
        return deadline.remaining(5.0), deadline.expired()

    left, expired = in_thread(remaining)
    assert least <= left <= most
    assert expired == (seconds < 0)


def test_green_thread_does_not_inherit_the_deadline(in_thread):
    def spawn():
        deadline.start(time.time() + 60)
        return in_thread(deadline.current)

    assert in_thread(spawn) is None
