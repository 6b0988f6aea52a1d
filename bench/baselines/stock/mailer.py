"""The mailer service on stock Nameko."""

from __future__ import annotations

from nameko.events import event_handler


class MailerService:
    name = "mailer"

    @event_handler("orders", "order_created")
    def on_order_created(self, order):
        """Take the event off its queue. Sending no mail favours the baseline."""
