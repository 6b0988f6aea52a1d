"""Keeping and sending mails.

An event becomes a row, and the row a mail: so an event that comes twice is one mail, and a mail
server that is away delays mails and loses none. What a process has sent in its last NOTE_SECONDS is
sent once more when it dies, under the same Message-ID.
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

BATCH = 10
"""At one turn, of two a second: a crowd of orders is confirmed at once and told of at this pace, for making
a mail costs about as much as placing the order did."""
NOTE_SECONDS = 0.1
"""How long mails that were sent may wait to be noted together: a commit for each costs more than a mail."""
LEASE = timedelta(seconds=15)
LONGEST_DELAY = 60.0
ALERT_ATTEMPTS = 10
"""A mail that has failed so often is an error in the log; it is tried again all the same."""


@retry_on_conflict
def keep_mails(store: MailsStore, events: Sequence[Mapping[str, Any]]) -> None:
    """Keep the mails about events; the same event again changes nothing."""
    mails = [
        domain.mail_about(event, amount(event["data"]["total_minor"], event["data"]["currency"]))
        for event in events
    ]
    with store.transaction() as tx:
        tx.add(mails)


def send_mails(store: MailsStore, send: Callable[[Mail], None]) -> int:
    """Send what is due; what fails is put off, with back-off. Returns how many were sent.

    Stops when half of the lease is over, so that no mail is sent by two at once: a slow server
    leaves the rest to the next one.
    """
    with store.transaction() as tx:
        leased = tx.lease_due(BATCH, LEASE)
    began = time.monotonic()
    sent, noted_at = 0, began
    unnoted: list[str] = []
    for mail, attempts in leased:
        now = time.monotonic()
        if now > began + LEASE.total_seconds() / 2:
            break
        if unnoted and now > noted_at + NOTE_SECONDS:
            _note(store, unnoted)
            noted_at = now
        try:
            send(mail)
        except Exception as error:  # whatever is wrong with one mail must not hold up the others
            _put_off(store, mail, attempts, error)
        else:
            sent += 1
            unnoted.append(mail.id)
    if unnoted:
        _note(store, unnoted)
    return sent


def _note(store: MailsStore, sent: list[str]) -> None:
    with store.transaction() as tx:
        tx.mark_sent(sent)
    sent.clear()


def _put_off(store: MailsStore, mail: Mail, attempts: int, error: Exception) -> None:
    delay = timedelta(seconds=back_off(attempts, first=1.0, longest=LONGEST_DELAY))
    level = logging.ERROR if attempts >= ALERT_ATTEMPTS else logging.WARNING
    kind = type(error).__name__
    log.log(level, "mail %s was not sent, attempt %d: %s: %s", mail.id, attempts, kind, error)
    with store.transaction() as tx:
        tx.put_off(mail.id, delay)
