"""mailer: stock Nameko."""

from __future__ import annotations

from nameko.events import event_handler


class MailerService:
    name = "mailer"

    @event_handler("orders", "order_created")
    def on_order_created(self, order):
        """Takes the event off its queue; the mail itself is a present to the baseline."""
