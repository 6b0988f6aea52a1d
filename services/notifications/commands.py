"""Keeping and sending mails.

An event becomes a row, and the row a mail: so an event that comes twice is one mail, and a mail
server that is away delays mails and loses none. A process that dies between sending and noting it
sends once more, under the same Message-ID.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from mesh.backoff import back_off
from mesh.database import settled
from mesh.money import amount
from services.notifications import domain
from services.notifications.domain import Mail
from services.notifications.store import MailsStore

log = logging.getLogger(__name__)

BATCH = 20
LEASE = timedelta(seconds=15)
LONGEST_DELAY = 60.0
ALERT_ATTEMPTS = 10
"""A mail that has failed so often is an error in the log; it is tried again all the same."""


@settled
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
    end = time.monotonic() + LEASE.total_seconds() / 2
    sent = 0
    for mail, attempts in leased:
        if time.monotonic() > end:
            break
        try:
            send(mail)
        except Exception as error:  # whatever is wrong with one mail must not hold up the others
            delay = timedelta(seconds=back_off(attempts, first=1.0, longest=LONGEST_DELAY))
            level = logging.ERROR if attempts >= ALERT_ATTEMPTS else logging.WARNING
            log.log(
                level,
                "mail %s was not sent, attempt %d: %s: %s",
                mail.id,
                attempts,
                type(error).__name__,
                error,
            )
            with store.transaction() as tx:
                tx.put_off(mail.id, delay)
        else:
            sent += 1
            with store.transaction() as tx:
                tx.mark_sent(mail.id)
    return sent
