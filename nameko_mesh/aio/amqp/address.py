"""Parses AMQP URIs, with the defaults of Nameko and kombu."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit

_PORTS = {"amqp": 5672, "pyamqp": 5672, "amqps": 5671}


@dataclass(frozen=True, slots=True)
class Address:
    """The address of a broker, and the login. `repr` leaves the password out, so logs do too."""

    host: str = "localhost"
    port: int = 5672
    user: str = "guest"
    password: str = field(default="guest", repr=False)
    vhost: str = "/"
    tls: bool = False
    heartbeat: int | None = None
    """Seconds, from `?heartbeat=`. 0 turns heartbeats off, None leaves the choice to the client."""

    def __str__(self) -> str:
        return f"{self.host}:{self.port}{'' if self.vhost == '/' else f' vhost {self.vhost}'}"


def parse_addresses(uris: str) -> list[Address]:
    """Return the brokers of the URIs, which are separated by `;`, in the order to try them.

    The schemes are `amqp`, `pyamqp` and `amqps`. Defaults: user guest, password guest, host localhost, the
    scheme's port, virtual host `/`. An empty path means `/` as well, as with kombu. By the AMQP URI
    specification it would be the empty name, which no broker has by default. Raises ValueError, whose message
    never shows the password.
    """
    return [_parse(uri.strip()) for uri in uris.split(";")]


def _parse(uri: str) -> Address:
    parts = urlsplit(uri)
    if parts.scheme not in _PORTS:
        raise ValueError(
            f"the scheme of an AMQP URI must be one of {', '.join(_PORTS)}, not {parts.scheme or 'empty'!r}"
        )
    try:
        port = parts.port
    except ValueError:
        raise ValueError("the port of the AMQP URI must be a number from 0 to 65535") from None
    heartbeat = parse_qs(parts.query).get("heartbeat")
    if heartbeat and not heartbeat[-1].isdecimal():
        raise ValueError("the heartbeat of the AMQP URI must be a whole number of seconds")
    return Address(
        host=unquote(parts.hostname or "localhost"),
        port=port or _PORTS[parts.scheme],
        user=unquote(parts.username or "guest"),
        password=unquote(parts.password if parts.password is not None else "guest"),
        vhost=unquote(parts.path[1:]) or "/",
        tls=parts.scheme == "amqps",
        heartbeat=int(heartbeat[-1]) if heartbeat else None,
    )
