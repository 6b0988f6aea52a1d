"""Natural batching: a single item leaves at once, many leave together, and each gets its own outcome."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref

import pytest

from nameko_mesh.aio import Batcher
from nameko_mesh.errors import DeadlineExceeded, Disconnected, Overloaded, Refused, RemoteFault, Unavailable


class Line:
    """A double of `send`: a batch returns after `go()`, with every number doubled."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.deadlines: list[float] = []
        self.failure: Exception | None = None
        self._go = asyncio.Semaphore(0)

    async def send(self, items, deadline):
        self.batches.append(list(items))
        self.deadlines.append(deadline)
        await self._go.acquire()
        if self.failure:
            raise self.failure
        return [Refused("conflict", f"{item} is odd") if item % 2 else 2 * item for item in items]

    def go(self, times: int = 1) -> None:
        for _ in range(times):
            self._go.release()


@pytest.fixture
def line():
    return Line()


@pytest.fixture
async def batcher_of():
    made: list[Batcher] = []

    def make(send, **options):
        made.append(Batcher(send, **options))
        return made[-1]

    yield make
    for batcher in made:
        await batcher.stop()


def soon(seconds: float = 5.0) -> float:
    return time.time() + seconds


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_single_item_leaves_at_once(line, batcher_of):
    line.go()

    assert await batcher_of(line.send)(2, soon()) == 4

    assert line.batches == [[2]]


async def test_items_that_arrive_meanwhile_leave_together_in_order(line, batcher_of):
    batcher = batcher_of(line.send)
    calls = [asyncio.ensure_future(batcher(2, soon()))]
    await turns()
    calls += [asyncio.ensure_future(batcher(number, soon())) for number in (4, 6, 8)]
    await turns()
    assert line.batches == [[2]]

    line.go(2)

    assert await asyncio.gather(*calls) == [4, 8, 12, 16]
    assert line.batches == [[2], [4, 6, 8]]


async def test_batch_has_at_most_the_maximum_size(line, batcher_of):
    line.go(3)
    batcher = batcher_of(line.send, max_batch_size=2)

    await asyncio.gather(*(batcher(number, soon()) for number in (2, 4, 6, 8, 10)))

    assert line.batches == [[2, 4], [6, 8], [10]]


async def test_batches_in_flight_are_limited_by_the_lanes(line, batcher_of):
    batcher = batcher_of(line.send, max_batch_size=1, lanes=2)
    calls = [asyncio.ensure_future(batcher(number, soon())) for number in (2, 4, 6)]
    await turns(10)
    assert line.batches == [[2], [4]]

    line.go(3)

    assert await asyncio.gather(*calls) == [4, 8, 12]


async def test_batch_beside_others_waits_until_it_is_as_large(line, batcher_of):
    batcher = batcher_of(line.send, lanes=3)
    calls = [asyncio.ensure_future(batcher(number, soon())) for number in (2, 4)]
    await turns()
    calls.append(asyncio.ensure_future(batcher(6, soon())))
    await turns()
    assert line.batches == [[2, 4]]

    calls.append(asyncio.ensure_future(batcher(8, soon())))
    await turns()
    assert line.batches == [[2, 4], [6, 8]]

    calls += [asyncio.ensure_future(batcher(number, soon())) for number in (10, 12)]
    await turns()
    assert line.batches == [[2, 4], [6, 8]]  # four are in flight

    line.go(3)
    assert await asyncio.gather(*calls) == [4, 8, 12, 16, 20, 24]
    assert line.batches == [[2, 4], [6, 8], [10, 12]]


async def test_full_batch_waits_only_for_a_lane(line, batcher_of):
    batcher = batcher_of(line.send, max_batch_size=2, lanes=3)
    calls = [asyncio.ensure_future(batcher(number, soon())) for number in (2, 4, 6, 8, 10, 12)]
    await turns()
    assert line.batches == [[2, 4], [6, 8], [10, 12]]

    line.go(3)
    await asyncio.gather(*calls)


async def test_next_batch_is_sent_before_the_last_results_are_delivered(batcher_of):
    happened: list[str] = []
    back = {1: asyncio.Event(), 2: asyncio.Event()}

    async def send(items, deadline):
        asyncio.get_running_loop().call_soon(happened.append, f"{items} on the wire")  # as connections do
        await back[items[0]].wait()
        return items

    async def ask(number):
        happened.append(f"{await batcher(number, soon())} answered")

    batcher = batcher_of(send)
    calls = [asyncio.ensure_future(ask(1))]
    await turns()
    calls.append(asyncio.ensure_future(ask(2)))
    await turns()
    back[1].set()
    await calls[0]
    back[2].set()
    await calls[1]

    assert happened == ["[1] on the wire", "[2] on the wire", "1 answered", "2 answered"]


async def test_refusal_of_one_item_leaves_the_others_alone(line, batcher_of):
    line.go()
    batcher = batcher_of(line.send)

    odd, even = await asyncio.gather(batcher(3, soon()), batcher(4, soon()), return_exceptions=True)

    assert isinstance(odd, Refused)
    assert even == 8


async def test_error_of_a_batch_reaches_every_item(line, batcher_of):
    line.failure = Disconnected("the broker went away")
    line.go(2)
    batcher = batcher_of(line.send)

    answers = await asyncio.gather(batcher(2, soon()), batcher(4, soon()), return_exceptions=True)
    assert [type(answer) for answer in answers] == [Disconnected, Disconnected]

    line.failure = None
    assert await batcher(6, soon()) == 12


async def test_unexpected_error_stops_no_later_batch(batcher_of):
    async def broken(items, deadline):
        if 2 in items:
            raise ZeroDivisionError
        return [] if 4 in items else list(items)

    batcher = batcher_of(broken)
    with pytest.raises(ZeroDivisionError):
        await batcher(2, soon())
    with pytest.raises(RemoteFault):
        await batcher(4, soon())
    assert await batcher(6, soon()) == 6


async def test_item_keeps_its_deadline_and_the_batch_gets_the_latest(line, batcher_of):
    batcher = batcher_of(line.send)
    early, late = soon(0.05), soon()
    calls = asyncio.gather(batcher(2, early), batcher(4, late), return_exceptions=True)
    await asyncio.sleep(0.1)
    line.go()

    first, second = await calls

    assert isinstance(first, DeadlineExceeded)
    assert second == 8
    assert line.deadlines == [late]


async def test_item_of_a_cancelled_caller_is_not_sent(line, batcher_of):
    batcher = batcher_of(line.send)
    under_way = asyncio.ensure_future(batcher(2, soon()))
    await turns()
    cancelled, expired = asyncio.ensure_future(batcher(4, soon())), batcher(6, soon(0.02))
    await turns()
    cancelled.cancel()
    with pytest.raises(DeadlineExceeded):
        await expired
    kept = asyncio.ensure_future(batcher(8, soon()))
    line.go(2)

    assert await asyncio.gather(under_way, kept) == [4, 16]
    assert line.batches == [[2], [8]]


async def test_item_with_a_passed_deadline_is_not_sent(line, batcher_of):
    with pytest.raises(DeadlineExceeded):
        await batcher_of(line.send)(2, time.time() - 1)
    assert line.batches == []


async def test_item_beyond_the_limit_is_refused_and_abandoned_items_do_not_count(line, batcher_of):
    batcher = batcher_of(line.send, max_waiting=2)
    under_way = asyncio.ensure_future(batcher(2, soon()))
    await turns()
    waiting = [asyncio.ensure_future(batcher(number, soon())) for number in (4, 6)]
    await turns()
    with pytest.raises(Overloaded):
        await batcher(8, soon())
    waiting[0].cancel()
    await turns()
    third = asyncio.ensure_future(batcher(10, soon()))
    line.go(2)

    assert await asyncio.gather(under_way, waiting[1], third) == [4, 12, 20]


async def test_size_of_each_batch_is_reported(line, batcher_of):
    sizes: list[int] = []
    line.go(2)
    batcher = batcher_of(line.send, max_batch_size=2, on_batch=sizes.append)
    await asyncio.gather(*(batcher(number, soon()) for number in (2, 4, 6)))
    assert sizes == [2, 1]


async def test_stop_waits_for_the_batches_in_flight(line, batcher_of):
    batcher = batcher_of(line.send)
    calls = asyncio.ensure_future(batcher(2, soon()))
    await turns()
    stopping = asyncio.ensure_future(batcher.stop())
    await turns()
    assert not stopping.done()
    line.go()
    await stopping
    assert await calls == 4


async def test_item_that_would_be_too_late_is_refused_at_once(line, batcher_of):
    batcher = batcher_of(line.send, max_batch_size=2)
    first = [asyncio.ensure_future(batcher(number, soon())) for number in (2, 4)]
    await asyncio.sleep(0.1)  # so the pace is at most 20 items a second
    line.go()
    await asyncio.gather(*first)
    waiting = [asyncio.ensure_future(batcher(number, soon())) for number in range(0, 12, 2)]
    await turns()

    with pytest.raises(Overloaded, match="no answer in time"):
        await batcher(20, soon(0.1))
    patient = asyncio.ensure_future(batcher(22, soon()))
    line.go(4)

    assert (await asyncio.gather(*waiting, patient))[-1] == 44


async def test_item_is_not_refused_before_the_first_full_batch(line, batcher_of):
    batcher = batcher_of(line.send, max_batch_size=2)
    waiting = [asyncio.ensure_future(batcher(number, soon())) for number in range(0, 12, 2)]
    await turns()
    late = asyncio.ensure_future(batcher(20, soon(0.2)))

    with pytest.raises(DeadlineExceeded):
        await late
    line.go(3)

    await asyncio.gather(*waiting)


async def test_item_behind_stalled_batches_is_refused(line, batcher_of):
    batcher = batcher_of(line.send, lanes=2, stalled_after=0.02)
    calls = [asyncio.ensure_future(batcher(2, soon()))]
    await turns()
    calls.append(asyncio.ensure_future(batcher(4, soon())))  # with a free lane the item need not wait
    await asyncio.sleep(0.03)

    with pytest.raises(Unavailable):
        await batcher(6, soon())

    line.go()
    assert await calls[0] == 4
    calls.append(asyncio.ensure_future(batcher(8, soon())))  # a batch has returned
    line.go(2)
    assert await asyncio.gather(*calls) == [4, 8, 16]


async def test_slow_batch_refuses_no_item_while_a_lane_is_free(line, batcher_of):
    batcher = batcher_of(line.send, lanes=2, stalled_after=0.02)
    calls = [asyncio.ensure_future(batcher(2, soon()))]
    await asyncio.sleep(0.03)

    calls.append(asyncio.ensure_future(batcher(4, soon())))
    line.go(2)

    assert await asyncio.gather(*calls) == [4, 8]


async def test_items_beside_a_stuck_batch_take_a_free_lane(line, batcher_of):
    left = asyncio.Event()
    batcher = batcher_of(line.send, lanes=2, on_batch=lambda size: size == 1 and left.set())
    calls = [asyncio.ensure_future(batcher(number, soon())) for number in (2, 4, 6)]
    await turns()
    calls.append(asyncio.ensure_future(batcher(8, soon())))
    await turns()
    assert line.batches == [[2, 4, 6]]

    await asyncio.wait_for(left.wait(), 5)

    line.go(2)
    assert await asyncio.gather(*calls) == [4, 8, 12, 16]


async def test_stuck_batch_delays_later_batches_only_once(batcher_of):
    stuck = asyncio.Event()
    sizes: list[int] = []

    async def send(items, deadline):
        if 0 in items:
            await stuck.wait()
        return items

    batcher = batcher_of(send, lanes=2, on_batch=sizes.append)
    calls = [asyncio.ensure_future(batcher(0, soon())) for _ in range(50)]
    await turns()
    began = time.monotonic()
    for number in range(1, 101):
        assert await batcher(number, soon()) == number
    assert time.monotonic() - began < 5  # a hundred times STUCK_SECONDS would be twenty

    stuck.set()
    assert await asyncio.gather(*calls) == [0] * 50
    assert sizes == [50, *[1] * 100]


async def test_none_is_a_valid_result(batcher_of):
    async def send(items, deadline):
        return [None] * len(items)

    assert await batcher_of(send)(1, soon()) is None


async def test_result_that_has_arrived_is_delivered_after_the_deadline(batcher_of):
    back = asyncio.Event()

    async def send(items, deadline):
        await back.wait()
        asyncio.get_running_loop().call_soon(time.sleep, 0.1)  # other tasks keep the loop busy
        return items

    batcher = batcher_of(send)
    first = asyncio.ensure_future(batcher(1, soon(0.05)))
    await turns()
    second = asyncio.ensure_future(batcher(2, soon()))
    await turns()
    back.set()

    assert await asyncio.gather(first, second) == [1, 2]


async def test_cancelled_batch_frees_its_lane(line, batcher_of):
    batcher = batcher_of(line.send)
    lost = asyncio.ensure_future(batcher(2, soon(0.2)))
    await turns()
    for task in asyncio.all_tasks() - {asyncio.current_task(), lost}:
        task.cancel()
    await turns()
    line.go()

    assert await batcher(4, soon()) == 8
    with pytest.raises(DeadlineExceeded):
        await lost


@pytest.mark.parametrize("as_a_whole", [False, True])
async def test_errors_are_freed_after_they_were_raised(batcher_of, as_a_whole):
    errors: list[weakref.ref] = []

    def an_error():
        error = Refused("conflict", "no")
        errors.append(weakref.ref(error))
        return error

    async def send(items, deadline):
        if as_a_whole:
            raise an_error()
        return [an_error()]

    batcher = batcher_of(send)
    gc.disable()
    try:
        for _ in range(3):
            with pytest.raises(Refused):
                await batcher(1, soon())
        await turns()
        assert [error() for error in errors] == [None] * 3
    finally:
        gc.enable()
