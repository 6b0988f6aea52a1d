"""RPC over a real broker: errors, deadlines, draining, and stock Nameko as the peer."""

from __future__ import annotations

import io
import logging
import time

import eventlet
import pytest
from kombu import Connection, Exchange, Producer
from nameko import config
from nameko.exceptions import RemoteError
from nameko.rpc import rpc as stock_rpc
from nameko.standalone.rpc import ServiceRpcClient
from nameko.testing.services import dummy, entrypoint_hook

from nameko_mesh import errors
from nameko_mesh.log import Formatter
from nameko_mesh.rpc import rpc
from nameko_mesh.rpc.client import MIN_SPARE_SECONDS, ServiceClient
from tests.waiting import eventually


class OutOfStock(Exception):
    slug = "out-of-stock"
    field = "quantity"


class Target:
    name = "target"
    executed: list[str] = []

    @rpc
    def echo(self, value):
        return value

    @rpc
    def refuse(self):
        raise OutOfStock("none left")

    @rpc
    def break_down(self):
        raise RuntimeError("secret: the password is hunter2")

    @rpc
    def confuse(self):
        raise RuntimeError({("a", "tuple"): object()})

    @rpc
    def unsendable(self):
        return object()

    @rpc
    def slow(self, seconds, token="x"):
        self.executed.append(token)
        eventlet.sleep(seconds)
        return token

    @rpc
    def tell(self):
        logging.getLogger(__name__).warning("told")


class StockTarget:
    name = "target"

    @stock_rpc
    def echo(self, value):
        return value

    @stock_rpc
    def break_down(self):
        raise ValueError("what a stock service says")


class Caller:
    name = "caller"

    target = ServiceClient("target", timeout=1.0)
    nobody = ServiceClient("nobody", timeout=1.0)

    @dummy
    def call(self, method, **arguments):
        return getattr(self.target, method)(**arguments)

    @dummy
    def call_many(self, tokens):
        """Make five calls of `slow` at a time. Nameko's hook takes one call at a time."""
        pool = eventlet.GreenPool(5)
        return list(pool.imap(lambda token: self.target.slow(seconds=0.05, token=token), tokens))

    @dummy
    def call_nobody(self):
        return self.nobody.echo(value=1)


@pytest.fixture
def target(container_factory):
    Target.executed.clear()
    container = container_factory(Target)
    container.start()
    return container


@pytest.fixture
def caller(container_factory):
    container = container_factory(Caller)
    container.start()
    return container


def publish(body, routing_key="target.echo", **properties):
    """Publish any body, as a foreign program might."""
    with Connection(config["AMQP_URI"]) as connection:
        producer = Producer(connection.channel(), Exchange("nameko-rpc", type="topic"), auto_declare=False)
        producer.publish(body, routing_key=routing_key, serializer="json", **properties)


def test_call_returns_the_result(target, caller):
    with entrypoint_hook(caller, "call") as call:
        assert call("echo", value={"a": [1, 2.5, None, "ü"]}) == {"a": [1, 2.5, None, "ü"]}


def test_refusal_keeps_slug_field_and_message(target, caller):
    with entrypoint_hook(caller, "call") as call, pytest.raises(errors.Refused, match="none left") as refused:
        call("refuse")
    assert (refused.value.slug, refused.value.field) == ("out-of-stock", "quantity")


@pytest.mark.parametrize("method", ["break_down", "confuse", "unsendable"])
def test_fault_hides_its_text_and_ends_no_process(target, caller, method):
    with entrypoint_hook(caller, "call") as call:
        with pytest.raises(errors.RemoteFault) as fault:
            call(method)
        assert "hunter2" not in str(fault.value)
        assert call("echo", value=1) == 1


def test_stock_client_gets_results_and_errors(target):
    with ServiceRpcClient("target", timeout=5) as client:
        assert client.echo(value=1) == 1
        with pytest.raises(RemoteError, match="OutOfStock none left"):
            client.refuse()


def test_stock_service_is_understood(container_factory, caller):
    container_factory(StockTarget).start()
    with entrypoint_hook(caller, "call") as call:
        assert call("echo", value=1) == 1
        with pytest.raises(errors.RemoteFault):
            call("break_down")
        with pytest.raises(errors.Refused, match="MethodNotFound"):
            call("absent")


def test_wrong_arguments_are_refused(target, caller):
    with entrypoint_hook(caller, "call") as call, pytest.raises(errors.Refused) as refused:
        call("echo", valeu=1)
    assert refused.value.slug == "validation-failed"


def test_unknown_service_raises_without_waiting(caller):
    with entrypoint_hook(caller, "call_nobody") as call, pytest.raises(errors.UnknownService):
        call()


def test_call_ends_at_its_timeout_and_leaves_no_pending_reply(target, caller):
    with entrypoint_hook(caller, "call") as call:
        started = time.monotonic()
        with pytest.raises(errors.DeadlineExceeded):
            call("slow", seconds=5)
        assert time.monotonic() - started < 3
    (listener,) = [extension for extension in caller.extensions if hasattr(extension, "pending")]
    assert listener.pending == {}


def test_calls_inherit_the_deadline_of_the_request(target, caller):
    context = {"deadline": time.time() + 0.4}
    with entrypoint_hook(caller, "call", context_data=context) as call:
        started = time.monotonic()
        with pytest.raises(errors.DeadlineExceeded):
            call("slow", seconds=5)
        assert time.monotonic() - started < 0.9


def test_expired_deadline_makes_no_call(target, caller):
    just_enough_to_answer = {"deadline": time.time() + MIN_SPARE_SECONDS}
    hook = entrypoint_hook(caller, "call", context_data=just_enough_to_answer)
    with hook as call, pytest.raises(errors.DeadlineExceeded, match="no time"):
        call("slow", seconds=0)
    assert Target.executed == []


def test_call_that_arrives_after_its_deadline_is_not_executed(target, caller):
    body = {"args": [], "kwargs": {"seconds": 0, "token": "late"}}
    publish(body, "target.slow", headers={"nameko.deadline": time.time() - 1})
    with entrypoint_hook(caller, "call") as call:
        call("slow", seconds=0, token="in time")
    assert Target.executed == ["in time"]


def test_call_whose_deadline_passes_before_a_worker_is_free_is_dropped(container_factory, caller):
    Target.executed.clear()
    with config.patch({"max_workers": 1}):
        container_factory(Target).start()
    with entrypoint_hook(caller, "call") as call:
        first = eventlet.spawn(call, "slow", seconds=0.8, token="first")
        eventually(lambda: Target.executed == ["first"])
        body = {"args": [], "kwargs": {"seconds": 0, "token": "late"}}
        for _ in range(5):
            publish(body, "target.slow", headers={"nameko.deadline": time.time() + 0.2})
        publish({**body, "kwargs": {"seconds": 0, "token": "patient"}}, "target.slow")
        first.wait()
        eventually(lambda: "patient" in Target.executed)
    assert Target.executed == ["first", "patient"]


def test_log_lines_end_with_the_remaining_milliseconds(target, caller):
    console = logging.StreamHandler(io.StringIO())
    console.setFormatter(Formatter("%(message)s"))
    log = logging.getLogger(__name__)
    log.addHandler(console)
    with entrypoint_hook(caller, "call") as call:
        call("tell")
    log.removeHandler(console)
    log.warning("nobody waits for this")
    (line,) = console.stream.getvalue().splitlines()
    assert 0 < int(line.removeprefix("told budget_ms=")) <= 1000


@pytest.mark.parametrize(
    "properties",
    [
        {},
        {"headers": {"nameko.call_id_stack": 5}, "reply_to": "x"},
        {"headers": {"nameko.deadline": "soon"}, "reply_to": "x", "correlation_id": "1"},
    ],
    ids=["no reply address", "a call stack that is none", "a deadline that is none"],
)
@pytest.mark.parametrize("body", [{"args": [], "kwargs": {"value": 1}}, {"args": []}, [], None, 7])
def test_hostile_message_leaves_the_service_working(target, caller, queue_of, properties, body):
    publish(body, **properties)
    with entrypoint_hook(caller, "call") as call:
        assert call("echo", value=1) == 1
    assert not target._died.ready()


def test_calls_in_flight_finish_once_when_the_service_stops(container_factory, target, caller):
    """The stopping instance answers, so the other instance executes no call again."""
    with entrypoint_hook(caller, "call") as call:
        in_flight = eventlet.spawn(call, "slow", seconds=0.8, token="once")
        eventually(lambda: Target.executed == ["once"])
        heir = container_factory(Target)
        heir.start()
        target.stop()
        assert in_flight.wait() == "once"
        assert call("echo", value=2) == 2
    assert Target.executed == ["once"]


def test_calls_during_a_stop_are_answered_by_the_other_instance(container_factory, target, caller):
    heir = container_factory(Target)
    heir.start()
    tokens = [str(number) for number in range(40)]
    with entrypoint_hook(caller, "call_many") as call_many:
        calls = eventlet.spawn(call_many, tokens=tokens)
        eventually(lambda: len(Target.executed) > 4)
        target.stop()
        assert calls.wait() == tokens
    assert sorted(Target.executed, key=int) == tokens
