"""Reads and writes of the table of mails."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

import sqlalchemy as sa

from nameko_mesh.sql import Store, Transaction, among, as_row, clock
from services.notifications.domain import Mail
from services.notifications.tables import mails, unsent

_columns = [mails.c[name] for name in Mail.__dataclass_fields__]


class MailsTransaction(Transaction):
    def add(self, new: Iterable[Mail]) -> None:
        """Write mails to be sent, at the commit. A mail that is kept already stays as it is."""
        rows = [{**as_row(mail), "attempts": 0} for mail in sorted(new, key=lambda mail: mail.id)]
        self.writes.insert(mails, rows, unless_there=True, due={"due_at": timedelta(0)})

    def lease_due(self, limit: int, lease: timedelta) -> list[tuple[Mail, int]]:
        """Lease unsent mails whose lease is over. Returns them with the attempts made so far."""
        now = self.now()
        due = (
            sa.select(mails.c.id)
            .where(unsent, mails.c.due_at <= now)
            .order_by(mails.c.due_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        leased = self.connection.execute(
            mails.update()
            .where(mails.c.id.in_(due))
            .values(due_at=now + lease, attempts=mails.c.attempts + 1)
            .returning(*_columns, mails.c.attempts)
        )
        return [
            (Mail(**{name: row._mapping[name] for name in Mail.__dataclass_fields__}), row.attempts)
            for row in leased
        ]

    def mark_sent(self, mail_ids: Iterable[str]) -> None:
        is_sent = among(self.connection, mails.c.id, mail_ids)
        self.connection.execute(
            mails.update().where(is_sent).values(sent_at=clock(self.connection.dialect.name))
        )

    def put_off(self, mail_id: str, delay: timedelta) -> None:
        self.connection.execute(mails.update().where(mails.c.id == mail_id).values(due_at=self.now() + delay))


class MailsStore(Store[MailsTransaction]):
    transaction_cls = MailsTransaction
