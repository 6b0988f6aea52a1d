"""The scheduling rule of batches, as tables of cases."""

from __future__ import annotations

import pytest

from nameko_mesh.aio.batch_schedule import (
    ITERATIONS_TO_SEND,
    LANES_TAKEN,
    NOW,
    Limits,
    Situation,
    is_full,
    is_stalled,
    iterations_before_delivery,
    next_batch,
)

LIMITS = Limits(max_batch_size=100, max_waiting=1000, lanes=3, stalled_after=0.5)
NOW_IS = 10.0


@pytest.mark.parametrize(
    ("waiting", "in_flight", "leaves_at"),
    [
        (1, [], NOW),
        (100, [], NOW),
        (1, [(9.95, 2)], 10.15),
        (2, [(9.95, 2)], NOW),
        (3, [(9.95, 2), (9.99, 2)], 10.15),  # the older batch stops counting first
        (4, [(9.95, 2), (9.99, 2)], NOW),
        (1, [(9.7, 2)], NOW),  # a stuck batch does not count
        (1, [(9.7, 50), (9.99, 2)], 10.19),
        (2, [(9.7, 50), (9.99, 2)], NOW),
        (1, [(9.8, 2)], NOW),  # exactly at the end of the time
        (99, [(9.95, 100), (9.99, 100)], 10.15),
        (100, [(9.95, 100), (9.99, 100)], NOW),  # a full batch waits for no more
        (100, [(9.95, 1), (9.96, 1), (9.97, 1)], LANES_TAKEN),
        (100, [(1.0, 1), (2.0, 1), (3.0, 1)], LANES_TAKEN),  # stuck batches keep their lanes
    ],
)
def test_batch_leaves_when_it_is_as_large_as_the_batches_in_flight(waiting, in_flight, leaves_at):
    decision = next_batch(Situation(NOW_IS, waiting, in_flight), LIMITS)

    assert decision == pytest.approx(leaves_at)


def test_batch_leaves_when_no_more_items_may_wait():
    limits = Limits(max_batch_size=100, max_waiting=5, lanes=2, stalled_after=0.5)

    assert next_batch(Situation(NOW_IS, 4, [(9.95, 100)]), limits) == pytest.approx(10.15)
    assert next_batch(Situation(NOW_IS, 5, [(9.95, 100)]), limits) == NOW


@pytest.mark.parametrize(
    ("waiting", "pace", "seconds_left", "full"),
    [
        (0, 0.0, 0.001, False),
        (999, 0.0, 0.001, False),  # without a pace only the limit counts
        (1000, 0.0, 60.0, True),
        (1000, 1e6, 60.0, True),
        (99, 10.0, 0.001, False),  # the pace counts only if a full batch waits
        (300, 100.0, 1.9, True),  # a second in the queue of three lanes, a second in flight
        (300, 100.0, 2.1, False),
        (100, 100.0, 1.3, True),
        (100, 100.0, 1.4, False),
    ],
)
def test_item_is_refused_without_a_place_or_without_time(waiting, pace, seconds_left, full):
    assert is_full(Situation(NOW_IS, waiting, [], pace=pace), LIMITS, seconds_left) is full


@pytest.mark.parametrize(
    ("in_flight", "moved_at", "stalled"),
    [
        ([], 0.0, False),  # nothing is in flight
        ([(1.0, 1), (1.0, 1)], 1.0, False),  # a lane is free
        ([(1.0, 1), (1.0, 1), (9.6, 1)], 9.6, False),  # a batch left lately
        ([(1.0, 1), (1.0, 1), (1.0, 1)], 9.4, True),
        ([(1.0, 1), (1.0, 1), (1.0, 1)], 9.5, False),  # not yet longer than the limit
    ],
)
def test_lanes_are_stalled_when_nothing_moved_for_a_while(in_flight, moved_at, stalled):
    assert is_stalled(Situation(NOW_IS, 1, in_flight, moved_at=moved_at), LIMITS) is stalled


def test_results_wait_until_the_next_batch_is_on_the_wire():
    assert iterations_before_delivery(next_is_leaving=True) == ITERATIONS_TO_SEND
    assert iterations_before_delivery(next_is_leaving=False) == 0
