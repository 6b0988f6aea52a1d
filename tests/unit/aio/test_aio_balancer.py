"""Calls to real gRPC servers in this process, some of which fail."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from functools import partial

import grpc
import grpc.aio
import pytest

from nameko_mesh.aio import Balancer, Breaker, Method, NoInstance, RetryBudget
from nameko_mesh.discovery.consul_watch import Endpoint
from nameko_mesh.errors import DeadlineExceeded, Refused, RemoteFault, Unavailable
from tests.waiting import eventually_async

ECHO = Method("/tests.Echo/Echo", bytes, bytes)
SECONDS = 10


class Server:
    """A server that answers by `behave`, at first with its port."""

    def __init__(self):
        self.calls = 0
        self.metadata = {}
        self.behave = self.answer
        self._server = grpc.aio.server()
        handlers = {"Echo": grpc.unary_unary_rpc_method_handler(self._handle)}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("tests.Echo", handlers),))
        self.endpoint = Endpoint("127.0.0.1", self._server.add_insecure_port("127.0.0.1:0"))
        self.start = self._server.start
        self.stop = partial(self._server.stop, 0)

    async def _handle(self, request, context):
        self.calls += 1
        self.metadata = dict(context.invocation_metadata())
        return await self.behave(request, context)

    async def answer(self, request, context):
        return str(self.endpoint.port).encode()

    async def hang(self, request, context):
        await asyncio.sleep(SECONDS)

    async def refuse(self, request, context):
        await context.abort(grpc.StatusCode.UNAVAILABLE, "not now")


@pytest.fixture
async def servers():
    started = [Server() for _ in range(3)]
    for server in started:
        await server.start()
    yield started
    for server in started:
        await server.stop()


@pytest.fixture
async def make_balancer():
    made = []

    async def make(servers, **options):
        balancer = Balancer("echo", **options)
        made.append(balancer)
        balancer.update([server.endpoint for server in servers])
        await eventually_async(lambda: all(instance.is_ready for instance in balancer.instances))
        return balancer

    yield make
    for balancer in made:
        await balancer.stop()


async def ask(balancer, *, may_repeat=True, seconds=SECONDS, **options):
    answer = await balancer.call(ECHO, b"", deadline=time.time() + seconds, may_repeat=may_repeat, **options)
    return int(answer)


async def test_load_is_spread_evenly(servers, make_balancer):
    balancer = await make_balancer(servers)

    for _ in range(100):
        await asyncio.gather(*(ask(balancer) for _ in range(6)))

    assert all(160 <= server.calls <= 240 for server in servers), Counter(server.calls for server in servers)


async def test_slow_instance_gets_fewer_calls(servers, make_balancer):
    slow, *quick = servers
    slow.behave = slow.hang
    balancer = await make_balancer(servers, patience=SECONDS)
    waiting = [asyncio.create_task(ask(balancer)) for _ in range(9)]
    await eventually_async(lambda: slow.calls)

    for _ in range(30):
        answered = asyncio.create_task(ask(balancer))
        waiting.append(answered)
        await asyncio.wait([answered], timeout=0.05)

    assert slow.calls < min(server.calls for server in quick)
    for task in waiting:
        task.cancel()


async def test_dying_instance_fails_no_call_and_is_called_again_after_its_return(servers, make_balancer):
    balancer = await make_balancer(servers)
    dead, *living = servers
    stop_asking = asyncio.Event()

    async def customer():
        answered = set()
        while not stop_asking.is_set():
            answered.add(await ask(balancer))
        return answered

    customers = [asyncio.create_task(customer()) for _ in range(4)]
    await eventually_async(lambda: dead.calls > 10)
    await dead.stop()
    await eventually_async(lambda: sum(instance.is_ready for instance in balancer.instances) == 2)
    stop_asking.set()
    await asyncio.gather(*customers)

    assert {await ask(balancer) for _ in range(50)} == {server.endpoint.port for server in living}


async def test_silent_instance_is_waited_for_only_briefly_if_there_is_another(servers, make_balancer):
    silent, other, _ = servers
    silent.behave = silent.hang
    balancer = await make_balancer(
        [silent, other], patience=0.3, make_breaker=partial(Breaker, max_failures=100)
    )

    assert {await ask(balancer) for _ in range(12)} == {other.endpoint.port}
    assert silent.calls

    balancer.update([silent.endpoint])
    with pytest.raises(DeadlineExceeded):
        await ask(balancer, seconds=0.2)


async def test_failing_instance_gets_no_calls_until_a_trial_succeeds(servers, make_balancer):
    sick, other, _ = servers
    sick.behave = sick.refuse
    balancer = await make_balancer(
        [sick, other],
        make_breaker=partial(Breaker, max_failures=2, open_seconds=0.2),
        budget=RetryBudget(reserve=100),
    )
    [breaker] = [instance.breaker for instance in balancer.instances if instance.endpoint == sick.endpoint]

    assert {await ask(balancer) for _ in range(30)} == {other.endpoint.port}
    assert sick.calls < 10
    assert breaker.failures == sick.calls

    sick.behave = sick.answer
    async with asyncio.timeout(SECONDS):
        while await ask(balancer) != sick.endpoint.port:
            pass
    assert breaker.state == "closed"


async def test_call_that_may_not_be_repeated_is_sent_once(servers, make_balancer):
    for server in servers:
        server.behave = server.refuse
    balancer = await make_balancer(servers)

    with pytest.raises(Unavailable, match="not now"):
        await ask(balancer, may_repeat=False)

    assert sum(server.calls for server in servers) == 1
    assert balancer.budget.spent == 0


async def test_new_instance_is_called_and_removed_instance_finishes_its_calls(servers, make_balancer):
    old, new, _ = servers
    balancer = await make_balancer([old])
    go_on = asyncio.Event()

    async def answer_later(request, context):
        await go_on.wait()
        return b"1"

    old.behave = answer_later
    in_flight = asyncio.create_task(ask(balancer))
    await eventually_async(lambda: old.calls)

    balancer.update([new.endpoint])
    await eventually_async(lambda: balancer.instances[0].is_ready)
    assert {await ask(balancer) for _ in range(10)} == {new.endpoint.port}
    go_on.set()
    assert await in_flight == 1


async def test_call_without_an_instance_raises_no_instance(servers, make_balancer):
    balancer = await make_balancer([])

    with pytest.raises(NoInstance):
        await ask(balancer)


async def test_call_cancelled_by_a_stopping_server_goes_to_another(servers, make_balancer):
    ending, living, *_ = servers

    async def give_up(request, context):
        await context.abort(grpc.StatusCode.CANCELLED, "it ends")

    ending.behave = give_up
    balancer = await make_balancer([ending, living])

    answers = [await ask(balancer)]
    async with asyncio.timeout(5):
        while not ending.calls:  # the balancer chooses at random
            answers.append(await ask(balancer))

    assert set(answers) == {living.endpoint.port}


@pytest.mark.parametrize(
    ("code", "error", "slug"),
    [
        (grpc.StatusCode.NOT_FOUND, Refused, "not-found"),
        (grpc.StatusCode.INVALID_ARGUMENT, Refused, "validation-failed"),
        (grpc.StatusCode.INTERNAL, RemoteFault, "internal"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Unavailable, "unavailable"),
    ],
)
async def test_status_becomes_a_mesh_error_and_no_failure_of_the_instance(
    servers, make_balancer, code, error, slug
):
    server, *_ = servers

    async def abort(request, context):
        await context.abort(code, "because")

    server.behave = abort
    balancer = await make_balancer([server])

    with pytest.raises(error, match="because") as raised:
        await ask(balancer)

    assert raised.value.slug == slug
    assert (server.calls, balancer.instances[0].breaker.failures) == (1, 0)


async def test_context_is_sent_in_nameko_s_format(servers, make_balancer):
    server, *_ = servers
    balancer = await make_balancer([server])

    await ask(balancer, context={"request_id": "r-1"})

    assert server.metadata["x-nameko-request_id"] == '"r-1"'
