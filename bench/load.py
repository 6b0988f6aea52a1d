"""What wrk sends: requests made beforehand, so that the load generator itself costs little."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.catalogue import picks

_KEY_HEADER = "Idempotency-Key: "
RUN_LENGTH = 22
"""Of the part of the key that is the same in one run; ten digits follow."""


@dataclass(frozen=True, slots=True)
class Load:
    """Where to send the templates to; between head and tail of each comes a key that is new each time."""

    host: str
    templates: Sequence[tuple[str, str]]
    good_status: str

    def write(self, path: Path) -> None:
        heads, tails = zip(*self.templates, strict=True)
        path.write_text(f"return {{heads = {_table(heads)}, tails = {_table(tails)}}}\n")


def orders(host: str, tokens: Mapping[str, str], *, one_line: bool) -> Load:
    """Orders of these users. `tokens` is empty text where a stack knows no tokens.

    `one_line`: the product beside the user, as the tutorial has it, instead of in a list of lines.
    """
    templates = []
    for user, product in picks(list(tokens)):
        line = {"product_id": product, "quantity": 1}
        wish = {"user_id": user, **line} if one_line else {"user_id": user, "items": [line]}
        body = json.dumps(wish)
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
    """Products, the hot one among them. The key goes where no stack looks, and costs all of them the same."""
    templates = [
        (f"GET /products/{product} HTTP/1.1\r\nHost: {host}\r\nX-Request-Id: ", "\r\n\r\n")
        for _, product in picks(["nobody"])
    ]
    return Load(host, templates, "200")


def _table(texts: Sequence[str]) -> str:
    # What JSON escapes in these texts (quotes, CR, LF) Lua escapes alike.
    return "{" + ",\n".join(json.dumps(text) for text in texts) + "}"
