"""The use cases of notifications: keep a mail about an event, and send the mails that are kept.

Each event becomes one row, and each row becomes one mail. An event that is delivered twice therefore leads to
one mail. A mail server that is away delays mails and loses none. If a process dies, the mails of its last
MARK_SECONDS are sent again, with the same Message-ID.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from nameko_mesh.backoff import back_off
from nameko_mesh.sql import retry_on_conflict
from services.money import amount
from services.notifications import domain
from services.notifications.domain import Mail
from services.notifications.store import MailsStore

log = logging.getLogger(__name__)

BATCH_SIZE = 10
"""The mails that are sent each half second.

A mail costs about as much as its order. In a burst all orders are confirmed first, and their mails follow at
this rate.
"""
MARK_SECONDS = 0.1
"""Sent mails wait for so long, to be marked in one commit. A commit costs more than a mail."""
LEASE = timedelta(seconds=15)
MAX_DELAY_SECONDS = 60.0
"""The longest pause between two attempts to send a mail."""
ALERT_ATTEMPTS = 10
"""From this attempt on, a failure is an error in the log. The attempts go on."""


@retry_on_conflict
def keep_mails(store: MailsStore, events: Sequence[Mapping[str, Any]]) -> None:
    """Keep a mail about each event. A repeated event changes nothing."""
    mails = [
        domain.mail_about(event, amount(event["data"]["total_minor"], event["data"]["currency"]))
        for event in events
    ]
    with store.transaction() as tx:
        tx.add(mails)


def send_mails(store: MailsStore, send: Callable[[Mail], None]) -> int:
    """Send the mails that are due. A mail that fails is due again later. Returns the number of sent mails.

    Leasing and marking are separate transactions, because no mail is sent inside a transaction. Stops when
    half of the lease is over, so that no other process sends the same mails. The mails that are left are due
    again when their lease ends.
    """
    with store.transaction() as tx:
        leased = tx.lease_due(BATCH_SIZE, LEASE)
    began = marked_at = time.monotonic()
    sent: list[str] = []
    marked = 0
    for mail, attempts in leased:
        now = time.monotonic()
        if now > began + LEASE.total_seconds() / 2:
            break
        if now > marked_at + MARK_SECONDS:
            _mark_sent(store, sent[marked:])
            marked, marked_at = len(sent), now
        try:
            send(mail)
        except Exception as error:  # any error, because a bad mail must not delay the other mails
            _put_off(store, mail, attempts, error)
        else:
            sent.append(mail.id)
    _mark_sent(store, sent[marked:])
    return len(sent)


def _mark_sent(store: MailsStore, mail_ids: Sequence[str]) -> None:
    if mail_ids:
        with store.transaction() as tx:
            tx.mark_sent(mail_ids)


def _put_off(store: MailsStore, mail: Mail, attempts: int, error: Exception) -> None:
    delay = timedelta(seconds=back_off(attempts, first=1.0, longest=MAX_DELAY_SECONDS))
    level = logging.ERROR if attempts >= ALERT_ATTEMPTS else logging.WARNING
    kind = type(error).__name__
    log.log(level, "mail %s was not sent, attempt %d: %s: %s", mail.id, attempts, kind, error)
    with store.transaction() as tx:
        tx.put_off(mail.id, delay)
