"""HTTP to stock Nameko services over a real broker, also while they are slow, broken or away."""

import asyncio
import time

import httpx

from tests.integration.gateway.conftest import TIMEOUT_SECONDS
from tests.waiting import eventually_async

SLOW = {"product_id": "SLOW", "quantity": 1}
FAST = {"product_id": "P001", "quantity": 1}
DEADLINE = 2.0


async def test_stock_nameko_service_answers_through_the_gateway(http, alice):
    product = await http.get("/products/P001")
    order = await http.post("/orders", json=FAST, headers=alice)

    assert (product.status_code, product.json()["name"]) == (200, "Laptop")
    assert (order.status_code, order.headers["location"]) == (201, "/orders/o-1")


async def test_parallel_requests_share_one_connection(http, alice):
    responses = await asyncio.gather(*(http.post("/orders", json=FAST, headers=alice) for _ in range(50)))

    assert {response.status_code for response in responses} == {201}


async def test_refused_order_has_the_status_of_its_code(http, alice):
    response = await http.post("/orders", json={"product_id": "NONE", "quantity": 1}, headers=alice)

    assert (response.status_code, response.json()["code"]) == (409, "out-of-stock")


async def test_slow_service_is_a_timeout_at_the_deadline(http, alice):
    began = time.monotonic()
    response = await http.post("/orders", json=SLOW, headers={**alice, "Idempotency-Key": "slow"})
    took = time.monotonic() - began

    assert (response.status_code, response.json()["code"]) == (504, "deadline-exceeded")
    assert response.headers["idempotency-key"] == "slow"
    assert DEADLINE * 0.9 < took < DEADLINE + 1


async def test_shorter_client_timeout_is_the_deadline(http, alice):
    began = time.monotonic()
    response = await http.post("/orders", json=SLOW, headers={**alice, "X-Request-Timeout": "0.4"})
    took = time.monotonic() - began

    assert (response.status_code, response.json()["code"]) == (504, "deadline-exceeded")
    assert 0.4 <= took < DEADLINE


async def test_remaining_budget_of_a_failed_call_is_logged(http, gateway, alice):
    await http.post(
        "/orders",
        json={"product_id": "CRASH", "quantity": 1},
        headers={**alice, "X-Request-Id": "timed", "X-Request-Timeout": "1"},
    )

    (line,) = [line for line in gateway.output.splitlines() if "request timed" in line]
    assert 0 < int(line.rpartition(" budget_ms=")[2]) < 1000


async def test_unknown_service_is_unavailable_at_once(http):
    began = time.monotonic()
    response = await http.post("/auth/token", data={"username": "a@example.com", "password": "long enough"})
    took = time.monotonic() - began

    assert (response.status_code, response.json()["code"]) == (503, "unavailable")
    assert int(response.headers["retry-after"]) >= 1
    assert took < DEADLINE


async def test_crash_of_a_service_is_unavailable_without_its_error(http, gateway, alice):
    response = await http.post(
        "/orders", json={"product_id": "CRASH", "quantity": 1}, headers={**alice, "X-Request-Id": "the-crash"}
    )

    assert (response.status_code, response.json()["code"]) == (503, "unavailable")
    assert "secret" not in response.text
    assert "the-crash" in gateway.output


async def test_gateway_starts_without_a_broker(start_gateway, unused_port, alice):
    process = start_gateway(f"amqp://guest:guest@127.0.0.1:{unused_port}//")

    async with httpx.AsyncClient(base_url=process.url) as http:
        ready = await http.get("/ready")
        began = time.monotonic()
        response = await http.post("/orders", json=FAST, headers=alice)
        took = time.monotonic() - began

    assert (ready.status_code, ready.json()["code"]) == (503, "unavailable")
    assert (response.status_code, response.json()["code"]) == (503, "unavailable")
    assert took < DEADLINE


async def test_gateway_recovers_when_the_broker_comes_back(start_gateway, proxy, stubs, arrived, alice):
    process = start_gateway(proxy.uri)
    async with httpx.AsyncClient(base_url=process.url, timeout=10) as http:

        async def is_ready():
            return (await http.get("/ready")).is_success

        await eventually_async(is_ready, TIMEOUT_SECONDS)
        assert (await http.post("/orders", json=FAST, headers=alice)).status_code == 201

        headers = {**alice, "Idempotency-Key": f"lost-{time.monotonic_ns()}"}
        in_flight = asyncio.create_task(http.post("/orders", json=SLOW, headers=headers))

        async def it_arrived():
            return (arrived / headers["Idempotency-Key"]).exists()

        await eventually_async(it_arrived, TIMEOUT_SECONDS)
        await proxy.close()
        lost = await in_flight
        refused = await http.post("/orders", json=FAST, headers=alice)

        assert (lost.status_code, lost.json()["code"]) == (503, "unavailable")
        assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
        assert (await http.get("/ready")).status_code == 503
        assert (await http.get("/health")).status_code == 200

        await proxy.open(proxy.port)
        await eventually_async(is_ready, TIMEOUT_SECONDS)
        assert (await http.post("/orders", json=FAST, headers=alice)).status_code == 201


async def test_stream_sends_an_order_until_its_final_status(http, alice):
    async with http.stream("GET", "/orders/o-9/events", headers=alice) as stream:
        lines = stream.aiter_lines()

        async def next_event():
            event = {}
            async for line in lines:
                if not line:
                    return event
                name, _, value = line.partition(": ")
                event[name] = value
            return event

        async with asyncio.timeout(10):
            first = await next_event()
            assert await next_event() == {"": "still here"}  # events flow from now on
            assert (await http.post("/orders/o-9/cancel", headers=alice)).status_code == 200
            second = await next_event()
            rest = [line async for line in lines]

    assert first == {"event": "status", "data": '{"order_id":"o-9","status":"confirmed"}'}
    assert second == {"id": "3", "event": "status", "data": '{"order_id":"o-9","status":"cancelled"}'}
    assert rest == []


async def test_body_over_the_limit_is_refused_while_it_is_sent(http, alice):
    async def endless():
        for _ in range(64):
            yield b" " * 65536

    headers = {**alice, "Content-Type": "application/json"}
    announced = await http.post("/orders", content=b" " * 2_000_000, headers=headers)
    streamed = await http.post("/orders", content=endless(), headers=headers)

    for response in (announced, streamed):
        assert (response.status_code, response.json()["code"]) == (413, "payload-too-large")
    assert (await http.get("/health")).status_code == 200
