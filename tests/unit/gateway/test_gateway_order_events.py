"""The stream of an order's events: the present status, each change, and the end."""

import asyncio

import httpx
import pytest

from gateway.app import create_app
from gateway.order_events.feed import OrderFeed
from gateway.order_events.sse import StatusStream
from nameko_mesh.errors import Unavailable
from tests.waiting import eventually_async


def an_event(status, version=2, order_id="o-1"):
    return {
        "event_id": "e",
        "type": f"order_{status}",
        "version": 1,
        "occurred_at": "2026-01-01T00:00:00Z",
        "aggregate_id": order_id,
        "aggregate_version": version,
        "data": {"order_id": order_id, "user_id": "U001", "status": status},
    }


def sse(status, version=None):
    number = f"id: {version}\n" if version else ""
    return f'{number}event: status\ndata: {{"order_id":"o-1","status":"{status}"}}\n\n'


@pytest.fixture
def feed(app) -> OrderFeed:
    return app.state.gateway.feed


@pytest.fixture
def settings(make_settings):
    return make_settings(GATEWAY_STREAMS=2)


async def test_stream_sends_the_status_and_changes_until_the_final_one(http, mesh, alice, an_order, feed):
    mesh.results["orders.get_order"] = an_order(status="pending")
    stream = asyncio.create_task(http.get("/orders/o-1/events", headers=alice))
    await eventually_async(lambda: feed._count == 1)

    feed.publish(an_event("confirmed", 2))
    feed.publish(an_event("confirmed", 2))
    feed.publish(an_event("cancelled", 3, order_id="o-2"))
    feed.publish(an_event("cancelled", 3))
    response = await asyncio.wait_for(stream, 5)

    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-store"
    assert response.text == sse("pending") + sse("confirmed", 2) + sse("cancelled", 3)
    assert feed._count == 0


async def test_stream_of_a_final_order_ends_after_its_status(http, mesh, alice, an_order, feed):
    mesh.results["orders.get_order"] = an_order(status="cancelled")

    response = await http.get("/orders/o-1/events", headers={**alice, "Last-Event-ID": "7"})

    assert response.text == sse("cancelled")
    assert feed._count == 0


async def test_change_during_the_read_of_the_status_is_sent(http, mesh, alice, an_order, feed):
    def overtaken(order_id):
        feed.publish(an_event("cancelled", 3))
        return an_order(status="confirmed")

    mesh.results["orders.get_order"] = overtaken

    response = await asyncio.wait_for(http.get("/orders/o-1/events", headers=alice), 5)

    assert response.text == sse("confirmed") + sse("cancelled", 3)


async def test_heartbeat_reads_a_lost_status(make_settings, mesh, alice, an_order):
    app = create_app(make_settings(GATEWAY_HEARTBEAT_SECONDS=0.01), mesh)
    reads = iter(["pending", "pending", Unavailable("away"), "cancelled"])

    def read(order_id):
        status = next(reads)
        return status if isinstance(status, Exception) else an_order(status=status)

    mesh.results["orders.get_order"] = read
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://gateway") as http:
        response = await asyncio.wait_for(http.get("/orders/o-1/events", headers=alice), 5)

    assert response.text == sse("pending") + ": still here\n\n" * 3 + sse("cancelled")


async def test_status_is_read_again_when_events_begin_to_flow(http, mesh, alice, an_order, feed):
    mesh.results["orders.get_order"] = an_order(status="confirmed")
    stream = asyncio.create_task(http.get("/orders/o-1/events", headers=alice))
    await eventually_async(lambda: feed._count == 1)

    mesh.results["orders.get_order"] = an_order(status="cancelled")
    feed.refresh()
    response = await asyncio.wait_for(stream, 5)

    assert response.text.endswith(sse("cancelled"))


async def test_stream_ends_after_its_maximum_time(make_settings, mesh, alice, an_order):
    app = create_app(make_settings(GATEWAY_STREAM_SECONDS=0.05), mesh)
    mesh.results["orders.get_order"] = an_order(status="confirmed")

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://gateway") as http:
        response = await asyncio.wait_for(http.get("/orders/o-1/events", headers=alice), 5)

    assert response.text.startswith(sse("confirmed"))


async def test_followers_over_the_limit_are_refused(http, mesh, alice, an_order, feed, is_problem):
    mesh.results["orders.get_order"] = an_order(status="pending")
    streams = [asyncio.create_task(http.get("/orders/o-1/events", headers=alice)) for _ in range(2)]
    await eventually_async(lambda: feed._count == 2)

    refused = await asyncio.wait_for(http.get("/orders/o-1/events", headers=alice), 5)
    is_problem(refused, 503, "unavailable")

    feed.close()
    for response in await asyncio.wait_for(asyncio.gather(*streams), 5):
        assert response.text == sse("pending")
    assert feed._count == 0


async def test_forbidden_follower_takes_no_place(http, mesh, alice, an_order, feed):
    mesh.results["orders.get_order"] = an_order(user={"id": "U002"})

    for _ in range(5):
        assert (await http.get("/orders/o-1/events", headers=alice)).status_code == 403
    assert feed._count == 0


async def test_new_follower_is_refused_while_the_process_drains(http, feed, alice, is_problem):
    feed.close()

    refused = await asyncio.wait_for(http.get("/orders/o-1/events", headers=alice), 5)
    is_problem(refused, 503, "unavailable")


async def test_disconnected_client_gives_its_place_back(feed):
    gone = asyncio.Event()

    async def receive():
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        pass

    async def read_status():
        raise AssertionError

    stream = StatusStream("pending", feed.follow("o-1"), read_status, heartbeat_seconds=60, max_seconds=60)
    serving = asyncio.create_task(stream({"type": "http"}, receive, send))
    await asyncio.sleep(0)
    assert feed._count == 1

    gone.set()
    await asyncio.wait_for(serving, 5)

    assert feed._count == 0


async def test_slow_follower_is_ended(feed):
    follower = feed.follow("o-1")

    for version in range(100):
        feed.publish(an_event("confirmed", version))

    assert follower.ended
    follower.close()
    follower.close()
    assert feed._count == 0


@pytest.mark.parametrize("event", [None, {}, {"aggregate_id": "o-1"}, {"aggregate_id": "o-1", "data": {}}])
def test_malformed_event_is_dropped_and_logged(feed, event, caplog):
    follower = feed.follow("o-1")

    feed.publish(event)

    assert follower._waiting.empty()
    assert "dropped" in caplog.text


async def test_subscription_lasts_while_an_order_is_followed(http, mesh, alice, an_order, feed, monkeypatch):
    monkeypatch.setattr("gateway.order_events.feed.LINGER_SECONDS", 0.0)
    mesh.results["orders.get_order"] = an_order(status="pending")
    assert not mesh.subscribed
    stream = asyncio.create_task(http.get("/orders/o-1/events", headers=alice))
    await eventually_async(lambda: "order_confirmed" in mesh.subscribed.get("orders", ()))

    feed.publish(an_event("cancelled", 3))
    await asyncio.wait_for(stream, 5)

    await eventually_async(lambda: not mesh.subscribed)


async def test_next_follower_takes_over_the_lingering_subscription(mesh, feed):
    feed.follow("o-1").close()
    mesh.subscribed.clear()

    follower = feed.follow("o-2")

    assert not mesh.subscribed
    follower.close()
