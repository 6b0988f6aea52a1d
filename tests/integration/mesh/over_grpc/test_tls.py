"""TLS: a failed or missing handshake affects no other client."""

from __future__ import annotations

import shutil
import socket
import ssl
import struct
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from nameko_mesh.grpc.http2 import limits
from tests.integration.mesh.over_grpc.echo import EchoService
from tests.integration.mesh.over_grpc.stranger import Stranger
from tests.waiting import eventually


@pytest.fixture
def chain(tmp_path: Path) -> dict[str, str]:
    if (openssl := shutil.which("openssl")) is None:
        pytest.skip("there is no openssl to make a certificate with")
    files = {"keyfile": str(tmp_path / "key.pem"), "certfile": str(tmp_path / "certificate.pem")}
    making = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
    subprocess.run(
        [*making, "-keyout", files["keyfile"], "-out", files["certfile"]], check=True, capture_output=True
    )
    return files


@pytest.fixture
def secure(start: Callable[..., Any], chain: dict[str, str]) -> Any:
    return start(EchoService, GRPC_SSL={"cert_chain": chain})


def well_mannered(port: int, chain: dict[str, str]) -> Stranger:
    client = Stranger(port, greets=False)
    context = ssl.create_default_context(cafile=chain["certfile"])
    context.set_alpn_protocols(["h2"])
    client.sock = context.wrap_socket(client.sock, server_hostname="localhost")
    client.h2.initiate_connection()
    client.flush()
    return client


@pytest.mark.parametrize("said", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\n\r\n"])
@pytest.mark.parametrize("resets", [True, False])
def test_failed_handshake_disturbs_no_other(
    said: bytes, resets: bool, secure: Any, chain: dict[str, str]
) -> None:
    with Stranger(secure.server.bound_port, greets=False) as client:
        client.sock.sendall(said)
        if resets:
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with well_mannered(secure.server.bound_port, chain) as client:
        assert client.call() == "grpc 0"
    eventually(lambda: secure.server.listener._open == 0)


def test_client_without_a_tls_handshake_is_disconnected(
    secure: Any, chain: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HANDSHAKE_SECONDS", 0.5)
    with Stranger(secure.server.bound_port, greets=False) as client, suppress(OSError):
        assert client.sock.recv(1000) == b""


def test_goodbye_is_sent_over_tls(secure: Any, chain: dict[str, str]) -> None:
    with well_mannered(secure.server.bound_port, chain) as client:
        assert client.call() == "grpc 0"
        slow = client.ask(b"\0\0\0\0\x06\x0a\x04slow")
        (connection,) = secure.server.listener.connections
        eventually(lambda: connection.send_streams)
        secure.server.leave()
        assert client.answer(slow) == "grpc 0"
        assert client.goodbye() == 0
