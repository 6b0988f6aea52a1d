"""Replies to RPC requests, in Nameko's format."""

from __future__ import annotations

import logging
from collections.abc import Container, Mapping
from typing import Any

import kombu.serialization
from nameko import rpc as stock
from nameko.exceptions import UnserializableValueError, get_module_path

from nameko_mesh import errors
from nameko_mesh.amqp.publish import send

log = logging.getLogger(__name__)

MAX_REPLY_BYTES = 16 * 1024 * 1024


def wire_error(error: BaseException) -> dict[str, Any]:
    """Return Nameko's error payload: all values are strings, and a public error adds its slug.

    The text of an error without a slug stays in the log, because the error is a fault of this service.
    """
    public = errors.describe(error)
    message = str(error) if public or _is_nameko(error) else "internal error"
    payload: dict[str, Any] = {
        "exc_type": type(error).__name__,
        "exc_path": get_module_path(type(error)),
        "exc_args": [message],
        "value": message,
    }
    if public:
        payload["slug"] = public["code"]
        payload["field"] = public.get("field")
    return payload


def _is_nameko(error: BaseException) -> bool:
    return type(error).__module__ == "nameko.exceptions"


class Responder(stock.Responder):
    """Sends the reply in the encoding of the request, or in JSON when that encoding is not accepted.

    The reply leaves on the channel that delivered the request, before the ack of the request. A broker that
    has received the ack has received the reply too, so a confirm would add nothing.
    """

    def __init__(self, exchange: str, message: Any, accept: Container[str]) -> None:
        self.exchange = exchange
        self.message = message
        self.accept = accept

    def send_response(self, result: Any, exc_info: Any) -> tuple[Any, Any]:
        properties = self.message.properties
        reply_to = properties.get("reply_to")
        if reply_to is None:
            log.warning("executed a request without a reply address: no caller receives the result")
            return result, exc_info
        content_type, content_encoding, body = self._encoded(result, exc_info)
        send(
            self.message.channel,
            body.encode(content_encoding) if isinstance(body, str) else body,
            exchange=self.exchange,
            routing_key=reply_to,
            content_type=content_type,
            content_encoding=content_encoding,
            correlation_id=properties.get("correlation_id"),
        )
        return result, exc_info

    def _encoded(self, result: Any, exc_info: Any) -> tuple[str, str, str | bytes]:
        content_type = self.message.properties.get("content_type")
        serializer = kombu.serialization.registry.type_to_name.get(content_type, "json")
        if serializer not in self.accept:
            serializer = "json"
        error = wire_error(exc_info[1]) if exc_info else None
        return _encode({"result": None if error else result, "error": error}, serializer)


def _encode(reply: Mapping[str, Any], serializer: str) -> tuple[str, str, str | bytes]:
    """Return content type, encoding and body; an unserializable or too large result becomes an error."""
    try:
        encoded: tuple[str, str, str | bytes] = kombu.serialization.dumps(reply, serializer)
        if len(encoded[2]) <= MAX_REPLY_BYTES:
            return encoded
        problem = f"the result has more than {MAX_REPLY_BYTES} bytes"
    except Exception:
        log.exception("the result is not serializable as %s", serializer)
        problem = "result"
    error = wire_error(UnserializableValueError(problem))
    return kombu.serialization.dumps({"result": None, "error": error}, serializer)  # type: ignore[no-any-return]
