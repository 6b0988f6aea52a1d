"""Network addresses: host and port in text, and the URL of a Consul agent."""

from __future__ import annotations

from urllib.parse import urlsplit

CONSUL_PORT = 8500


def bracketed(host: str) -> str:
    """Return the host as a URL holds it: an IPv6 address in brackets (RFC 3986, section 3.2.2)."""
    return f"[{host}]" if ":" in host else host


def join_host_port(host: str, port: int) -> str:
    """Return `host:port`, or `[host]:port` for an IPv6 address."""
    return f"{bracketed(host)}:{port}"


def split_host_port(text: str) -> tuple[str, int]:
    """Split `host:port` or `[host]:port`. Raises ValueError when either part is missing or invalid."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"{text!r} is no host:port")
    return host.removeprefix("[").removesuffix("]"), int(port)


def consul_url(http_addr: str) -> str:
    """Return the URL to append Consul's paths to. `http_addr` is a URL, or `host:port` for plain HTTP."""
    return (http_addr if "//" in http_addr else f"http://{http_addr}").rstrip("/")


def split_consul_url(http_addr: str) -> tuple[str, str, int]:
    """Return scheme, host and port of a Consul agent; the port is 8500 when `http_addr` has none."""
    url = urlsplit(consul_url(http_addr))
    return url.scheme, url.hostname or "127.0.0.1", url.port or CONSUL_PORT
