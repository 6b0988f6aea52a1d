"""Mails are sent by SMTP to a real server, or written to files."""

from __future__ import annotations

import email
import ssl
import subprocess
from email import policy

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from nameko import config

from mycelium.servers import free_port
from services.notifications.domain import Mail
from services.notifications.mailer import Mailer

MAIL = Mail(id="e-1", recipient="alice@example.com", subject="Your order o-1 is confirmed", body="Grüße\n")


class Mailbox:
    def __init__(self):
        self.received = []

    async def handle_DATA(self, server, session, envelope):
        self.received.append(
            (envelope.rcpt_tos, email.message_from_bytes(envelope.content, policy=policy.default))
        )
        return "250 OK"


@pytest.fixture
def box():
    return Mailbox()


@pytest.fixture
def server(box):
    controller = Controller(box, hostname="127.0.0.1", port=free_port())
    controller.start()
    yield controller
    controller.stop()


def mailer(**settings):
    with config.patch(settings, clear=True):
        provider = Mailer()
        provider.setup()
    return provider.get_dependency(None)


def test_mail_is_delivered_by_smtp(server, box):
    mailer(SMTP_URL=f"smtp://127.0.0.1:{server.port}", MAIL_FROM="shop@example.com")(MAIL)
    ((recipients, message),) = box.received
    assert recipients == ["alice@example.com"]
    assert message["From"] == "shop@example.com"
    assert message["Subject"] == MAIL.subject
    assert message["Message-ID"] == "<e-1@mycelium.invalid>"
    assert message.get_content().strip() == "Grüße"


def test_unreachable_server_raises_oserror():
    with pytest.raises(OSError, match="refused"):
        mailer(SMTP_URL=f"smtp://127.0.0.1:{free_port()}")(MAIL)


def test_password_is_not_sent_without_tls(server, box):
    with pytest.raises(OSError, match="STARTTLS"):
        mailer(SMTP_URL=f"smtp://shop:secret@127.0.0.1:{server.port}")(MAIL)
    assert box.received == []


def test_login_over_tls_sends_the_decoded_password(box, tmp_path, monkeypatch):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost"
    options = ["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-keyout", key, "-out", certificate]
    subprocess.run([*command.split(), *options], check=True, capture_output=True, timeout=30)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    logins = []

    def authenticate(server, session, envelope, mechanism, login):
        logins.append((login.login, login.password))
        return AuthResult(success=True)

    controller = Controller(
        box,
        hostname="127.0.0.1",
        port=free_port(),
        tls_context=tls,
        authenticator=authenticate,
        auth_required=True,
    )
    controller.start()
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    try:
        mailer(SMTP_URL=f"smtp://shop:s%40cret@127.0.0.1:{controller.port}")(MAIL)
    finally:
        controller.stop()
    assert logins == [(b"shop", b"s@cret")]
    assert len(box.received) == 1


def test_mail_without_a_server_is_a_file(tmp_path):
    send = mailer(OUTBOX_DIR=str(tmp_path / "outbox"))
    send(MAIL)
    send(MAIL)  # the second call overwrites the file
    (path,) = (tmp_path / "outbox").iterdir()
    assert path.name == "e-1.eml"
    assert email.message_from_bytes(path.read_bytes(), policy=policy.default)["To"] == "alice@example.com"


@pytest.mark.parametrize("recipient", ["=?utf-8?q?a=0a?=@example.com", "o'brien+tag@example.com"])
def test_recipient_with_special_characters_is_kept_as_written(tmp_path, recipient):
    mail = Mail(id="e-2", recipient=recipient, subject="Hello", body="Hello")
    mailer(OUTBOX_DIR=str(tmp_path))(mail)
    assert recipient.partition("@")[2] in (tmp_path / "e-2.eml").read_text()
