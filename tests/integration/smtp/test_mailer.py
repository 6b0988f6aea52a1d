"""Mails leave by SMTP to a real server, or land as files that a mail program opens."""

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


class Box:
    def __init__(self):
        self.received = []

    async def handle_DATA(self, server, session, envelope):
        self.received.append(
            (envelope.rcpt_tos, email.message_from_bytes(envelope.content, policy=policy.default))
        )
        return "250 OK"


@pytest.fixture
def box():
    return Box()


@pytest.fixture
def server(box):
    controller = Controller(box, hostname="127.0.0.1", port=free_port())
    controller.start()
    yield controller
    controller.stop()


def mailer(**settings):
    with config.patch(settings, clear=True):
        made = Mailer()
        made.setup()
    return made.get_dependency(None)


def test_a_mail_is_delivered_by_smtp(server, box):
    mailer(SMTP_URL=f"smtp://127.0.0.1:{server.port}", MAIL_FROM="shop@example.com")(MAIL)
    ((recipients, message),) = box.received
    assert recipients == ["alice@example.com"]
    assert message["From"] == "shop@example.com"
    assert message["Subject"] == MAIL.subject
    assert message["Message-ID"] == "<e-1@mycelium.invalid>"
    assert message.get_content().strip() == "Grüße"


def test_a_server_that_is_away_is_an_oserror():
    with pytest.raises(OSError, match="refused"):
        mailer(SMTP_URL=f"smtp://127.0.0.1:{free_port()}")(MAIL)


def test_a_password_is_not_sent_in_the_clear(server, box):
    with pytest.raises(OSError, match="STARTTLS"):
        mailer(SMTP_URL=f"smtp://shop:secret@127.0.0.1:{server.port}")(MAIL)
    assert box.received == []


def test_a_log_in_over_tls(box, tmp_path, monkeypatch):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "1",
        "-subj",
        "/CN=localhost",
    ]
    made += [
        "-addext",
        "subjectAltName=IP:127.0.0.1,DNS:localhost",
        "-keyout",
        str(key),
        "-out",
        str(certificate),
    ]
    subprocess.run(made, check=True, capture_output=True, timeout=30)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    seen = []

    def authenticate(server, session, envelope, mechanism, login):
        seen.append((login.login, login.password))
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
    assert seen == [(b"shop", b"s@cret")]
    assert len(box.received) == 1


def test_without_a_server_a_mail_is_a_file(tmp_path):
    send = mailer(OUTBOX_DIR=str(tmp_path / "outbox"))
    send(MAIL)
    send(MAIL)  # the same mail again is the same file
    (path,) = (tmp_path / "outbox").iterdir()
    assert path.name == "e-1.eml"
    assert email.message_from_bytes(path.read_bytes(), policy=policy.default)["To"] == "alice@example.com"


@pytest.mark.parametrize("recipient", ["=?utf-8?q?a=0a?=@example.com", "o'brien+tag@example.com"])
def test_an_address_is_never_read_as_something_else(tmp_path, recipient):
    mail = Mail(id="e-2", recipient=recipient, subject="Hello", body="Hello")
    mailer(OUTBOX_DIR=str(tmp_path))(mail)
    assert recipient.partition("@")[2] in (tmp_path / "e-2.eml").read_text()
