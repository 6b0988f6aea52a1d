"""Keeping and sending mails.

An event becomes a row, and the row a mail: so an event that comes twice is one mail, and a mail
server that is away delays mails and loses none. A process that dies between sending and noting it
sends once more, under the same Message-ID.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
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
LEASE = timedelta(seconds=60)
"""Longer than a batch takes when every mail times out at the server."""
LONGEST_DELAY = 60.0


@settled
def keep_mail(store: MailsStore, event: Mapping[str, Any]) -> None:
    """Keep the mail about an event; the same event again changes nothing."""
    data = event["data"]
    mail = domain.mail_about(event, amount(data["total_minor"], data["currency"]))
    with store.transaction() as tx:
        tx.add(mail)


def send_mails(store: MailsStore, send: Callable[[Mail], None]) -> int:
    """Send what is due; what fails is put off, with back-off. Returns how many were sent."""
    with store.transaction() as tx:
        leased = tx.lease_due(BATCH, LEASE)
    sent = 0
    for mail, attempts in leased:
        try:
            send(mail)
        except OSError as error:  # smtplib's errors are OSErrors
            delay = timedelta(seconds=back_off(attempts, first=1.0, longest=LONGEST_DELAY))
            log.warning("mail %s was not sent, attempt %d: %s", mail.id, attempts, error)
            with store.transaction() as tx:
                tx.put_off(mail.id, delay)
        else:
            sent += 1
            with store.transaction() as tx:
                tx.mark_sent(mail.id)
    return sent
