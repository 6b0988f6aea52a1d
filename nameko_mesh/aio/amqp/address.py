"""Where a broker is and who we are to it: AMQP URIs as Nameko and kombu read them."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit

_PORTS = {"amqp": 5672, "pyamqp": 5672, "amqps": 5671}


@dataclass(frozen=True, slots=True)
class Address:
    """One broker. The password stays out of `repr` and so out of logs."""

    host: str = "localhost"
    port: int = 5672
    user: str = "guest"
    password: str = field(default="guest", repr=False)
    vhost: str = "/"
    tls: bool = False
    heartbeat: int | None = None
    """Seconds, from `?heartbeat=`; 0 turns heartbeats off, None leaves the choice to the client."""

    def __str__(self) -> str:
        return f"{self.host}:{self.port}{'' if self.vhost == '/' else f' vhost {self.vhost}'}"


def parse_addresses(uris: str) -> list[Address]:
    """The brokers of one URI, or of several with `;` between them, in the order to try.

    `amqp://`, `pyamqp://` and `amqps://` are taken. What is left out is guest, guest, localhost,
    the scheme's port and `/`; an empty path means `/` too, for kombu's sake (the AMQP URI
    specification says the empty name, which no broker has by default).
    Raises ValueError, whose message shows no password.
    """
    return [_parse(uri.strip()) for uri in uris.split(";")]


def _parse(uri: str) -> Address:
    parts = urlsplit(uri)
    if parts.scheme not in _PORTS:
        raise ValueError(
            f"an AMQP URI starts with one of {', '.join(_PORTS)}, not {parts.scheme or 'nothing'!r}"
        )
    try:
        port = parts.port
    except ValueError:
        raise ValueError("the port of the AMQP URI is no number from 0 to 65535") from None
    heartbeat = parse_qs(parts.query).get("heartbeat")
    if heartbeat and not heartbeat[-1].isdecimal():
        raise ValueError("the heartbeat of the AMQP URI is no whole number of seconds")
    return Address(
        host=unquote(parts.hostname or "localhost"),
        port=port or _PORTS[parts.scheme],
        user=unquote(parts.username or "guest"),
        password=unquote(parts.password if parts.password is not None else "guest"),
        vhost=unquote(parts.path[1:]) or "/",
        tls=parts.scheme == "amqps",
        heartbeat=int(heartbeat[-1]) if heartbeat else None,
    )
