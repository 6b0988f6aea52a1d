"""Sends mails: by SMTP if SMTP_URL is set, else as files that a mail program opens."""

from __future__ import annotations

import smtplib
import ssl
from email.headerregistry import Address, HeaderRegistry
from email.message import EmailMessage
from email.policy import EmailPolicy
from email.utils import formatdate
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from nameko.extensions import DependencyProvider

from nameko_mesh import settings
from services.notifications.domain import Mail

SMTP_TIMEOUT_SECONDS = 2.5
_DOMAIN = "mycelium.invalid"


class _Headers(HeaderRegistry):
    """Caches the class of each header, which the standard library creates again for every message."""

    @cache  # noqa: B019 - the process has one instance
    def __getitem__(self, name: str) -> type[Any]:
        header_cls: type[Any] = super().__getitem__(name)
        return header_cls


_POLICY = EmailPolicy(header_factory=_Headers())


class Mailer(DependencyProvider):
    """Injects `send(mail)`, which raises OSError if the mail was not sent.

    SMTP_URL is smtp://[user:password@]host[:port], or smtps:// for TLS from the start. Over smtp:// a
    password is sent only after STARTTLS.
    """

    def setup(self) -> None:
        self.sender = str(settings.optional("MAIL_FROM", f"orders@{_DOMAIN}"))
        url = settings.optional("SMTP_URL")
        self.server = urlsplit(str(url)) if url else None
        self.outbox = Path(str(settings.optional("OUTBOX_DIR", ".mycelium/outbox")))

    def get_dependency(self, worker_ctx: Any) -> Any:
        return self.send

    def send(self, mail: Mail) -> None:
        message = EmailMessage(_POLICY)
        message["From"] = self.sender
        # As two parts, because a whole address would be searched for encoded words (RFC 2047).
        user, _, domain = mail.recipient.rpartition("@")
        message["To"] = Address(username=user, domain=domain)
        message["Subject"] = mail.subject
        message["Date"] = formatdate(usegmt=True)
        message["Message-ID"] = f"<{mail.id}@{_DOMAIN}>"
        message.set_content(mail.body)
        if self.server:
            self._by_smtp(message, self.server)
        else:
            self._as_file(message, mail.id)

    def _by_smtp(self, message: EmailMessage, server: SplitResult) -> None:
        secure = server.scheme == "smtps"
        connect = smtplib.SMTP_SSL if secure else smtplib.SMTP
        port = server.port or (465 if secure else 25)
        with connect(server.hostname or "localhost", port, timeout=SMTP_TIMEOUT_SECONDS) as smtp:
            if server.username:
                if not secure:
                    smtp.starttls(context=ssl.create_default_context())
                smtp.login(unquote(server.username), unquote(server.password or ""))
            smtp.send_message(message)

    def _as_file(self, message: EmailMessage, mail_id: str) -> None:
        self.outbox.mkdir(parents=True, exist_ok=True)
        unfinished = self.outbox / f".{mail_id}.tmp"
        unfinished.write_bytes(message.as_bytes())
        unfinished.replace(self.outbox / f"{mail_id}.eml")
