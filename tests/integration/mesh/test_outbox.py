"""Outbox rows that are claimed as they are inserted: PostgreSQL, where several instances share an outbox."""

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import eventlet
import pytest
import sqlalchemy as sa
from nameko import config
from sqlalchemy.engine.default import DefaultDialect

from mycelium.servers.postgresql import PostgreSQL
from nameko_mesh import sql
from nameko_mesh.amqp.confirmed_publisher import PublishResult
from nameko_mesh.errors import Unavailable
from nameko_mesh.events import event_handler
from nameko_mesh.outbox import SCHEMA, Handoff, OutboxRelay, insertion, outbox
from nameko_mesh.outbox.claims import OutboxStore, OutboxTransaction
from nameko_mesh.outbox.handoff import ClaimsLost
from nameko_mesh.outbox.publisher import EventPublisher
from nameko_mesh.outbox.relay import RETRY_PAUSE
from nameko_mesh.sql import Statement, migrations, open_engine
from tests.integration.mesh.happenings import Awaited, Happened, publish, unsent
from tests.waiting import eventually


class Source:
    name = "source"
    relay = OutboxRelay()


class Listener:
    name = "listener"
    heard: list[tuple[str, int]] = []

    @event_handler("source", "happened")
    def on_happened(self, event: dict[str, Any]) -> None:
        self.heard.append((event["aggregate_id"], event["data"]["number"]))


class Waited:
    """Hears both kinds, in the order in which they come."""

    name = "waited"
    heard: list[int] = []

    @event_handler("source", "awaited")
    def on_awaited(self, event: dict[str, Any]) -> None:
        self.heard.append(event["data"]["number"])


@pytest.fixture
def url(postgresql_server: PostgreSQL) -> Iterator[str]:
    name = f"source_{uuid.uuid4().hex}"
    postgresql_server.create_database(name)
    url = postgresql_server.url_for(name)
    migrations.upgrade(url, [sql.SCHEMA, SCHEMA])
    Listener.heard.clear()
    Waited.heard.clear()
    with config.patch({"DATABASE_URL": url}):
        yield url


@pytest.fixture
def store_of(url: str) -> Iterator[Callable[[Handoff], OutboxStore]]:
    engine = open_engine(url)
    yield lambda handoff: OutboxStore(engine, handoff)
    engine.dispose()


def handoff_of(claimant: str) -> Handoff:
    handoff = Handoff()
    handoff.rename_claimant(claimant)
    return handoff


def publish_too_late(store: OutboxStore) -> None:
    with store.transaction() as tx:
        tx.connection.execute(sa.text("SET LOCAL statement_timeout = 20"))
        tx.publish([(Happened(thing="late", number=2), 1)])
        tx.writes.add(Statement("SELECT pg_sleep(5)", (), lambda _: None, "count(written)"))


def test_cancelled_statement_leaves_earlier_claims_alone(store_of: Any) -> None:
    handoff = handoff_of("one")
    store = store_of(handoff)
    publish(store, Happened(thing="a", number=1))
    with pytest.raises(Unavailable):
        publish_too_late(store)
    assert handoff.claimant == "one"
    assert [one.aggregate_ids for one in handoff.take(10)] == [{"a"}]


def test_process_relays_the_rows_that_it_commits(store_of: Any) -> None:
    handoff = handoff_of("one")
    events = [Happened(thing=f"t{number % 7}", number=number) for number in range(250)]
    publish(store_of(handoff), *events)
    taken = handoff.take(250)
    assert [one.size for one in taken] == [100, 100, 50]
    told = [event["data"]["number"] for one in taken for event in one.events]
    assert told == list(range(250))
    assert [one.seq for one in taken] == sorted(one.seq for one in taken)
    with store_of(Handoff()).transaction() as tx:
        assert tx.claim("another", 200) == []


@pytest.mark.parametrize("other", [None, "one", "zwei"])
def test_new_row_waits_behind_an_older_row_of_another_claimant(store_of: Any, other: str | None) -> None:
    """The other claimant's name sorts before our own, after it, or there is none."""
    publish(store_of(Handoff() if other is None else handoff_of(other)), Happened(thing="a", number=1))
    mine = handoff_of("two")
    publish(store_of(mine), Happened(thing="a", number=2), Happened(thing="c", number=3))
    publish(store_of(mine), Happened(thing="b", number=4))
    assert [one.aggregate_ids for one in mine.take(10)] == [{"b"}]
    assert mine.take_unclaimed_flag()


def test_claim_waits_behind_a_row_that_waits_itself(store_of: Any) -> None:
    publish(store_of(handoff_of("one")), Happened(thing="a", number=1))
    mine = store_of(handoff_of("two"))
    publish(mine, Happened(thing="a", number=2), Happened(thing="b", number=3))
    publish(mine, Happened(thing="b", number=4), Happened(thing="c", number=5))
    publish(mine, Happened(thing="c", number=6))
    publish(store_of(Handoff()), Happened(thing="d", number=7))
    with mine.transaction() as tx:
        assert [one.aggregate_ids for one in tx.claim("two", 10)] == [{"d"}]


def test_row_waits_for_the_late_answer_to_an_older_commit(store_of: Any, monkeypatch: Any) -> None:
    handoff = handoff_of("one")
    store = store_of(handoff)
    run_callbacks = OutboxTransaction._run_callbacks
    answer = eventlet.event.Event()

    def run_callbacks_late(tx: OutboxTransaction) -> None:
        if tx._after_commit:
            answer.wait()
        run_callbacks(tx)

    with monkeypatch.context() as patch:
        patch.setattr(OutboxTransaction, "_run_callbacks", run_callbacks_late)
        older = eventlet.spawn(publish, store, Happened(thing="a", number=1))
        eventually(lambda: unsent(store) == 1)
    publish(store, Happened(thing="a", number=2), Happened(thing="b", number=3))
    publish(store, Happened(thing="c", number=4))
    assert [row.aggregate_ids for row in handoff.take(10)] == [{"c"}]
    answer.send(None)
    older.wait()
    assert [event["data"]["number"] for row in handoff.take(10) for event in row.events] == [1, 2, 3]


def publish_and_fail(store: OutboxStore, flush: bool) -> None:
    with store.transaction() as tx:
        tx.publish([(Happened(thing="a", number=1), 1)])
        if flush:
            tx.flush()
        raise KeyError


@pytest.mark.parametrize("flush", [False, True])
def test_rolled_back_transaction_holds_no_row_back(store_of: Any, flush: bool) -> None:
    handoff = handoff_of("one")
    store = store_of(handoff)
    with pytest.raises(KeyError):
        publish_and_fail(store, flush)
    publish(store, Happened(thing="a", number=2))
    assert [row.aggregate_ids for row in handoff.take(10)] == [{"a"}]


def test_rolled_back_row_is_not_offered(store_of: Any) -> None:
    handoff = handoff_of("one")
    with pytest.raises(RuntimeError), store_of(handoff).transaction() as tx:
        _publish_and_fail(tx)
    assert handoff.take(10) == []


def test_row_that_waited_too_long_is_given_up(store_of: Any, monkeypatch: Any) -> None:
    handoff = handoff_of("one")
    publish(store_of(handoff), Happened(thing="a", number=1))
    later = time.monotonic() + insertion.CLAIM.total_seconds()
    monkeypatch.setattr(time, "monotonic", lambda: later)
    with pytest.raises(ClaimsLost):
        handoff.take(10)
    assert [one.aggregate_ids for one in handoff.rename_claimant(None)] == [{"a"}]
    assert handoff.take(10) == []


def test_unknown_commit_outcome_stops_claims_under_the_same_name(store_of: Any, monkeypatch: Any) -> None:
    handoff = handoff_of("one")
    store = store_of(handoff)
    commit = DefaultDialect.do_commit

    def commit_without_an_answer(self: Any, connection: Any) -> None:
        commit(self, connection)
        raise sa.exc.OperationalError("COMMIT", {}, OSError("the server has gone"))

    with monkeypatch.context() as patch:
        patch.setattr(DefaultDialect, "do_commit", commit_without_an_answer)
        with pytest.raises(Unavailable):
            publish(store, Happened(thing="a", number=1))
    publish(store, Happened(thing="a", number=2))
    with pytest.raises(ClaimsLost):
        handoff.take(10)
    assert handoff.take(10) == []
    with store_of(Handoff()).transaction() as tx:
        assert tx.claim("another", 10) == []  # the second waits behind the first, whose claim holds


def test_events_reach_their_handler_once_and_in_order(container_factory: Any, store_of: Any) -> None:
    container_factory(Listener).start()
    source = container_factory(Source)
    source.start()
    (relay,) = [one for one in source.extensions if isinstance(one, OutboxRelay)]
    for number in range(50):
        publish(store_of(relay.outbox.handoff), Happened(thing="a", number=number))
    eventually(lambda: len(Listener.heard) == 50)
    assert Listener.heard == [("a", number) for number in range(50)]
    eventually(lambda: unsent(store_of(Handoff())) == 0)


def test_stopping_process_sends_its_last_events(container_factory: Any, store_of: Any) -> None:
    container_factory(Listener).start()
    source = container_factory(Source)
    source.start()
    (relay,) = [one for one in source.extensions if isinstance(one, OutboxRelay)]
    publish(store_of(relay.outbox.handoff), *(Happened(thing="a", number=number) for number in range(20)))
    source.stop()
    eventually(lambda: len(Listener.heard) == 20)
    assert unsent(store_of(Handoff())) == 0


def test_new_event_waits_behind_an_unroutable_one_of_its_aggregate(
    container_factory: Any, store_of: Any
) -> None:
    source = container_factory(Source)
    source.start()
    (relay,) = [one for one in source.extensions if isinstance(one, OutboxRelay)]
    store = store_of(relay.outbox.handoff)
    publish(store, Awaited(thing="a", number=0))
    eventually(lambda: unsent(store, outbox.c.claimed_by.is_(None)) == 1)
    publish(store, Awaited(thing="a", number=1))
    publish(store, Awaited(thing="a", number=2))
    assert unsent(store) == 3
    container_factory(Waited).start()
    eventually(lambda: Waited.heard == [0, 1, 2])


def test_rejected_row_is_sent_again_after_a_pause(
    container_factory: Any, store_of: Any, monkeypatch: Any
) -> None:
    container_factory(Listener).start()
    attempts: list[float] = []
    publish_messages = EventPublisher.publish

    def reject_once(self: EventPublisher, messages: Any) -> list[PublishResult]:
        attempts.append(time.monotonic())
        if len(attempts) == 1:
            return [PublishResult.REJECTED] * len(messages)
        return publish_messages(self, messages)

    monkeypatch.setattr(EventPublisher, "publish", reject_once)
    source = container_factory(Source)
    source.start()
    (relay,) = [one for one in source.extensions if isinstance(one, OutboxRelay)]
    publish(store_of(relay.outbox.handoff), Happened(thing="a", number=1))
    eventually(lambda: Listener.heard == [("a", 1)])
    assert attempts[1] - attempts[0] > RETRY_PAUSE.total_seconds() / 2


def test_row_held_by_another_holds_later_rows_of_its_aggregates(
    container_factory: Any, store_of: Any
) -> None:
    container_factory(Listener).start()
    store = store_of(Handoff())
    publish(store, Awaited(thing="b", number=0))
    publish(store, Happened(thing="a", number=1), Happened(thing="b", number=2))
    publish(store, Happened(thing="a", number=3))
    container_factory(Source).start()
    eventually(lambda: unsent(store, outbox.c.claimed_until.is_not(None), outbox.c.claimed_by.is_(None)) == 3)
    assert Listener.heard == []
    container_factory(Waited).start()
    eventually(lambda: len(Listener.heard) == 3)
    assert [number for thing, number in Listener.heard if thing == "a"] == [1, 3]


def test_row_that_only_shares_a_message_does_not_wait(container_factory: Any, store_of: Any) -> None:
    container_factory(Listener).start()
    store = store_of(Handoff())
    publish(store, Awaited(thing="b", number=0))
    publish(store, Happened(thing="a", number=1), Happened(thing="b", number=2))
    publish(store, Happened(thing="c", number=3), Happened(thing="d", number=4))
    publish(store, Happened(thing="d", number=5), Happened(thing="e", number=6))
    container_factory(Source).start()
    eventually(lambda: len(Listener.heard) == 4)
    assert [number for _, number in Listener.heard] == [3, 4, 5, 6]
    eventually(lambda: unsent(store) == 2)


def _publish_and_fail(tx: Any) -> None:
    tx.publish([(Happened(thing="a", number=1), 1)])
    raise RuntimeError("a rule says no")
