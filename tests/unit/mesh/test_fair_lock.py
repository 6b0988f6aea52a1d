"""FairLock: bounded waits, in the order of arrival."""

import time

import eventlet
import pytest

from nameko_mesh import deadline
from nameko_mesh.errors import DeadlineExceeded, Unavailable
from nameko_mesh.fair_lock import FairLock


def hold(lock, until):
    with lock.held(1.0):
        until.wait()


@pytest.fixture
def held_lock():
    """A lock that another green thread holds until the test ends."""
    lock, until = FairLock("the database"), eventlet.Event()
    holder = eventlet.spawn(hold, lock, until)
    eventlet.sleep(0)
    yield lock
    until.send(None)
    holder.wait()


def test_waiting_longer_than_the_timeout_raises_unavailable(held_lock):
    with pytest.raises(Unavailable, match="the database is busy"), held_lock.held(0.01):
        pytest.fail("the lock was acquired")


def test_wait_ends_at_the_deadline_of_the_work_in_hand(held_lock):
    def wait():
        deadline.start(time.time() + 0.01)
        with held_lock.held(60.0):
            pytest.fail("the lock was acquired")

    with pytest.raises(DeadlineExceeded):
        eventlet.spawn(wait).wait()


def test_waiters_acquire_in_the_order_of_arrival():
    lock, order = FairLock("the database"), []

    def go(number):
        with lock.held(1.0):
            eventlet.sleep(0)
            order.append(number)

    list(eventlet.GreenPool().imap(go, range(10)))
    assert order == list(range(10))


def test_failing_holder_releases_the_lock():
    lock = FairLock("the database")
    with pytest.raises(ZeroDivisionError), lock.held(1.0):
        raise ZeroDivisionError
    with lock.held(0.01):
        """The lock was free."""
