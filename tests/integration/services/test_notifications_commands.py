"""Keeping and sending mails, on both databases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from services.notifications import commands
from services.notifications.tables import mails
from tests.builders import an_order_event


@pytest.fixture
def store(mails_store):
    return mails_store


class MailServer:
    def __init__(self, failures=0):
        self.failures = failures
        self.sent = []

    def __call__(self, mail):
        if self.failures:
            self.failures -= 1
            raise OSError("the mail server is down")
        self.sent.append(mail)


def due_now(store):
    with store.transaction() as tx:
        tx.connection.execute(mails.update().values(due_at=datetime.now(UTC) - timedelta(seconds=1)))


def test_repeated_event_leads_to_one_mail(store):
    server = MailServer()
    commands.keep_mails(store, [an_order_event()])
    commands.keep_mails(store, [an_order_event()])
    assert commands.send_mails(store, server) == 1
    assert commands.send_mails(store, server) == 0
    (mail,) = server.sent
    assert "Total: 2401.00 USD" in mail.body


def test_batch_with_repeated_events_leads_to_one_mail_each(store):
    server = MailServer()
    events = [an_order_event() | {"event_id": f"e-{number % 5}"} for number in range(10)]
    commands.keep_mails(store, events)
    assert commands.send_mails(store, server) == 5


def test_failed_mail_is_sent_later(store):
    server = MailServer(failures=2)
    commands.keep_mails(store, [an_order_event()])
    for _ in range(3):
        due_now(store)
        commands.send_mails(store, server)
    assert len(server.sent) == 1


def test_failed_mail_does_not_delay_the_next(store):
    server = MailServer(failures=1)
    for number in (1, 2):
        commands.keep_mails(store, [an_order_event() | {"event_id": f"e-{number}"}])
    assert commands.send_mails(store, server) == 1


def test_mail_that_raises_any_error_does_not_delay_the_next(store):
    sent = []

    def send(mail):
        if mail.id == "e-1":
            raise ValueError("a malformed header")
        sent.append(mail.id)

    for number in (1, 2):
        commands.keep_mails(store, [an_order_event() | {"event_id": f"e-{number}"}])
    commands.send_mails(store, send)
    assert sent == ["e-2"]


def test_slow_server_ends_a_batch_at_half_of_the_lease(store, monkeypatch):
    """Half of the lease is over after the first mail, so the second mail waits for the next batch."""
    clock = iter([0.0, 0.0, commands.LEASE.total_seconds()])
    monkeypatch.setattr(commands, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    for number in (1, 2):
        commands.keep_mails(store, [an_order_event() | {"event_id": f"e-{number}"}])
    assert commands.send_mails(store, MailServer()) == 1
