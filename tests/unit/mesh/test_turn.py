"""Taking turns among green threads."""

import time

import eventlet
import pytest

from nameko_mesh import deadline
from nameko_mesh.errors import DeadlineExceeded, Unavailable
from nameko_mesh.fair_lock import Turn


def hold(turn, until):
    with turn.taken(1.0):
        until.wait()


@pytest.fixture
def taken():
    """A turn that somebody has, who does not give it up before the test ends."""
    turn, until = Turn(), eventlet.Event()
    holder = eventlet.spawn(hold, turn, until)
    eventlet.sleep(0)
    yield turn
    until.send(None)
    holder.wait()


def test_who_waits_too_long_for_a_turn_is_told_so(taken):
    with pytest.raises(Unavailable), taken.taken(0.01):
        pytest.fail("it was taken")


def test_a_turn_is_not_waited_for_beyond_the_deadline(taken):
    def wait():
        deadline.begin(time.time() + 0.01)
        with taken.taken(60.0):
            pytest.fail("it was taken")

    with pytest.raises(DeadlineExceeded):
        eventlet.spawn(wait).wait()


def test_they_come_in_the_order_of_their_coming():
    turn, order = Turn(), []

    def go(number):
        with turn.taken(1.0):
            eventlet.sleep(0)
            order.append(number)

    list(eventlet.GreenPool().imap(go, range(10)))
    assert order == list(range(10))


def test_a_turn_is_given_back_by_who_fails():
    turn = Turn()
    with pytest.raises(ZeroDivisionError), turn.taken(1.0):
        raise ZeroDivisionError
    with turn.taken(0.01):
        """It was free."""
