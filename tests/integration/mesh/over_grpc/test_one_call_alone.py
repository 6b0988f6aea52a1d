"""An invalid or oversized call affects no other call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import eventlet
import pytest
from hyperframe.frame import DataFrame, WindowUpdateFrame

from nameko_mesh.grpc.http2 import limits
from tests.integration.mesh.over_grpc.echo import Diary, EchoService, pb
from tests.integration.mesh.over_grpc.stranger import Stranger, enveloped
from tests.waiting import eventually

REPEAT = {"path": "/echo.Echo/Repeat"}
GATHER = {"path": "/echo.Echo/Gather"}


def say(text: str, times: int = 0, load: int = 0) -> bytes:
    return enveloped(pb.Say(text=text, times=times, load=b"x" * load).SerializeToString())


def test_response_of_a_wrong_type_ends_only_its_call(stranger: Stranger) -> None:
    slow, broken, stream = (
        stranger.ask(say("slow")),
        stranger.ask(say("unpackable")),
        stranger.ask(say("unpackable", times=3), **REPEAT),
    )
    assert stranger.answer(broken) == "grpc 13"
    assert stranger.answer(stream) == "grpc 13"
    assert stranger.answer(slow) == "grpc 0"


def test_stream_that_is_reset_during_sending_ends_only_itself(stranger: Stranger) -> None:
    stream_ids = [stranger.ask(say("x", times=200, load=1000), **REPEAT) for _ in range(20)]
    for stream_id in stream_ids[::2]:
        stranger.h2.reset_stream(stream_id)
    stranger.flush()
    assert {stranger.answer(stream_id) for stream_id in stream_ids[1::2]} == {"grpc 0"}


def test_refused_and_reset_calls_disturb_no_other(stranger: Stranger) -> None:
    """Refuse calls as after a goodbye. The responses of the other calls still arrive."""
    stream_ids = [stranger.ask(**GATHER) for _ in range(limits.MAX_STREAMS)]
    stranger.h2.remote_settings.max_concurrent_streams = 1000
    stranger.h2.remote_settings.acknowledge()
    give_up(stranger, GATHER)
    for stream_id in stream_ids:
        stranger.h2.end_stream(stream_id)
    stranger.flush()
    assert {stranger.answer(stream_id) for stream_id in stream_ids} == {"grpc 0"}
    give_up(stranger, {"content-type": "application/json"})
    assert stranger.call() == "grpc 0"


def give_up(stranger: Stranger, headers: dict[str, str]) -> None:
    """Make calls that are reset at once, all in one packet."""
    with suspended(stranger):
        for _ in range(5):
            stranger.h2.reset_stream(stranger.ask(**headers))
    stranger.flush()


@contextmanager
def suspended(stranger: Stranger) -> Iterator[None]:
    stranger.flush, flush = lambda: None, stranger.flush
    yield
    stranger.flush = flush


def test_client_faster_than_its_method_has_to_wait(stranger: Stranger) -> None:
    """No data is refused or lost. The client may continue when the method reads."""
    stream_id = stranger.ask(say("gate"), end=False, **GATHER)
    message = say("x" * 1000)
    sent = 0
    while len(message) < stranger.h2.local_flow_control_window(stream_id):
        stranger.send(stream_id, message)
        sent += 1
        stranger.call()  # receives the granted window; other calls succeed
    assert sent * len(message) < 4 * limits.MAX_UNREAD_BYTES
    EchoService.gate.send()
    for _ in range(1000):
        stranger.send(stream_id, message)
    stranger.h2.end_stream(stream_id)
    stranger.flush()
    assert stranger.answer(stream_id) == "grpc 0"


def test_many_small_messages_count_with_their_overhead(stranger: Stranger) -> None:
    stream_id = stranger.ask(say("gate"), end=False, **GATHER)
    sent = 0
    while stranger.h2.local_flow_control_window(stream_id) >= 5000:
        stranger.send(stream_id, enveloped(b"") * 1000)
        sent += 1000
        stranger.call()
    assert sent < 2 * 65535 / 5
    EchoService.gate.send()
    stranger.h2.end_stream(stream_id)
    stranger.flush()
    assert stranger.answer(stream_id) == "grpc 0"


def test_data_after_the_response_is_not_kept(stranger: Stranger, echo: Any) -> None:
    stream_id = stranger.ask(say("enough"), end=False, **GATHER)
    assert stranger.answer(stream_id) == "grpc 0"
    (connection,) = echo.server.listener.connections
    assert not connection.receive_streams
    stranger.sock.sendall(DataFrame(stream_id, b"x" * 100).serialize() * 100)
    assert stranger.call() == "grpc 0"


def test_call_with_a_passed_deadline_is_not_started(start: Any, echo: Any) -> None:
    """A call whose client has disconnected before a worker is free is not started either."""
    busy = start(EchoService, max_workers=1)
    with Stranger(busy.server.bound_port) as client:
        held = client.ask(say("gate"))
        eventually(lambda: Diary.entries == ["gate"])
        late = client.ask(say("late"), **{"grpc-timeout": "100m"})
        left = client.ask(say("left"))
        wanted = client.ask(say("wanted"))
        assert client.answer(late) == "grpc 4"
        client.h2.reset_stream(left)
        client.flush()
        eventually(lambda: _calls(busy) == 4)
        EchoService.gate.send()
        assert [client.answer(held), client.answer(wanted)] == ["grpc 0", "grpc 0"]
        assert Diary.entries == ["gate", "wanted"]
        eventually(lambda: _calls(busy) == 0)


def _calls(container: Any) -> int:
    return limits.MAX_CALLS - int(container.server.listener.shared.calls.left)


def test_disconnected_client_leaves_no_timer(stranger: Stranger, echo: Any) -> None:
    for _ in range(10):
        stranger.ask(say("gate"), **{"grpc-timeout": "1H"})
    eventually(lambda: len(Diary.entries) == 10)
    (connection,) = echo.server.listener.connections
    timers = [response.timer for response in connection.send_streams.values()]
    assert len(timers) == 10
    assert not any(timer.called for timer in timers)
    stranger.sock.close()
    eventually(lambda: all(timer.called for timer in timers))  # eventlet marks cancelled timers as called
    eventually(lambda: not echo.server.listener.connections)


def test_stream_ends_when_its_client_disconnects(stranger: Stranger, echo: Any) -> None:
    stream_id = stranger.ask(say("x", times=2**30, load=1000), **REPEAT)
    eventually(lambda: stranger.listen() and len(list(stranger.of(stream_id))) > 5)
    stranger.h2.reset_stream(stream_id)
    stranger.flush()
    eventually(lambda: not echo._worker_threads)


@pytest.mark.parametrize("answers_pings", [True, False])
def test_silent_client_is_pinged_and_disconnected_without_an_answer(
    answers_pings: bool, start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SILENCE_SECONDS", 0.5)
    echo = start(EchoService)
    with Stranger(echo.server.bound_port) as client:
        assert client.call() == "grpc 0"
        (connection,) = echo.server.listener.connections
        if answers_pings:
            assert eventually(
                lambda: client.listen() and [seen for seen in client.seen if "Ping" in str(seen)]
            )
            assert client.call() == "grpc 0"
        else:
            eventually(lambda: connection.stopped.is_set())


def test_idle_client_is_asked_to_close(
    stranger: Stranger, echo: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stranger.call() == "grpc 0"
    monkeypatch.setattr(limits, "IDLE_SECONDS", 0.1)
    assert stranger.goodbye() == 0


def test_unread_response_is_dropped(stranger: Stranger, echo: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SEND_SECONDS", 0.5)
    # Together they are more than the window of the connection.
    stream_id, other = (stranger.ask(say("x", times=5, load=12_000), **REPEAT) for _ in range(2))
    stranger.h2.acknowledge_received_data = lambda size, stream_id: None
    ends = sorted([stranger.answer(stream_id), stranger.answer(other)])
    assert ends == ["grpc 0", "reset 8"]


def test_busy_client_does_not_starve_others(stranger: Stranger, echo: Any) -> None:
    """Another client is answered while one client sends frames and reads nothing."""
    flood = WindowUpdateFrame(0, window_increment=1).serialize() * 1000

    def pour() -> None:
        while True:
            stranger.sock.sendall(flood)

    pouring = eventlet.spawn(pour)
    with Stranger(echo.server.bound_port) as client:
        assert [client.call() for _ in range(20)] == ["grpc 0"] * 20
    pouring.kill()
