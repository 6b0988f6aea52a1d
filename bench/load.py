"""Prepare the requests that wrk sends, so that the load generator itself uses little CPU."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.catalogue import picks

_KEY_HEADER = "Idempotency-Key: "
RUN_LENGTH = 22
"""Characters of the idempotency key that identify the run. Ten digits of a counter follow."""


@dataclass(frozen=True, slots=True)
class Load:
    """Request templates for a host. wrk inserts a new key between the head and the tail of a template."""

    host: str
    templates: Sequence[tuple[str, str]]
    good_status: str

    def write(self, path: Path) -> None:
        heads, tails = zip(*self.templates, strict=True)
        path.write_text(f"return {{heads = {_table(heads)}, tails = {_table(tails)}}}\n")


def orders(host: str, tokens: Mapping[str, str], *, one_line: bool) -> Load:
    """Return orders of these users. A token is empty for a stack without tokens.

    With `one_line` the body names a single product, as the tutorial expects, instead of a list of lines.
    """
    templates = []
    for user, product in picks(list(tokens)):
        line = {"product_id": product, "quantity": 1}
        order = {"user_id": user, **line} if one_line else {"user_id": user, "items": [line]}
        body = json.dumps(order)
        lines = [
            "POST /orders HTTP/1.1",
            f"Host: {host}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            *([f"Authorization: Bearer {tokens[user]}"] if tokens[user] else []),
            _KEY_HEADER,
        ]
        templates.append(("\r\n".join(lines), f"\r\n\r\n{body}"))
    return Load(host, templates, "201")


def reads(host: str) -> Load:
    """Return reads of products. The key goes into X-Request-Id, so that all stacks receive the same bytes."""
    templates = [
        (f"GET /products/{product} HTTP/1.1\r\nHost: {host}\r\nX-Request-Id: ", "\r\n\r\n")
        for _, product in picks(["nobody"])
    ]
    return Load(host, templates, "200")


def _table(texts: Sequence[str]) -> str:
    # JSON and Lua escape the special characters of these texts (quotes, CR, LF) alike.
    return "{" + ",\n".join(json.dumps(text) for text in texts) + "}"
