"""The entrypoints of notifications: delegate."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from nameko.timer import timer

from nameko_mesh.events import batch_handler
from nameko_mesh.runtime import Presence
from nameko_mesh.sql import Database, Pruning
from services.notifications import commands
from services.notifications.mailer import Mailer
from services.notifications.store import MailsStore
from services.notifications.tables import mails


class NotificationsService:
    name = "notifications"

    store = Database(MailsStore, plans_by_index=True)
    send = Mailer()
    presence = Presence()
    pruning = Pruning({mails.c.sent_at: timedelta(days=30)})  # a mail is the inbox row of its event, too

    @batch_handler("orders", "order_confirmed")
    def on_order_confirmed(self, events: list[dict[str, Any]]) -> None:
        commands.keep_mails(self.store, events)

    @batch_handler("orders", "order_cancelled")
    def on_order_cancelled(self, events: list[dict[str, Any]]) -> None:
        commands.keep_mails(self.store, events)

    @timer(interval=0.5)
    def send_mails(self) -> None:
        commands.send_mails(self.store, self.send)
