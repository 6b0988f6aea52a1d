"""RPC entrypoints: Nameko's protocol, whatever arrives.

    @rpc                in place of nameko.rpc.rpc

Speaks to stock Nameko on the other side. What it adds: SIGTERM loses no reply and executes nothing
twice; refusals cross the wire with their slug; what comes too late is not done; what can't be read is
answered, or parked where nobody can be; nothing that is sent can end the process.
`nameko_mesh.rpc.client` calls.
"""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Callable, Container, Mapping
from functools import partial
from typing import Any

import kombu.serialization
from nameko import rpc as stock
from nameko.exceptions import IncorrectSignature, UnserializableValueError, get_module_path
from nameko.messaging import decode_from_headers

from nameko_mesh import errors
from nameko_mesh.amqp.consumer import DRAIN_SECONDS, DrainingConsumer
from nameko_mesh.amqp.dead_letters import LIVES_LOST, DeadLetters, count_in
from nameko_mesh.amqp.publish import send
from nameko_mesh.context import deadline_of, validated_context
from nameko_mesh.workers import start_worker

log = logging.getLogger(__name__)

MAX_REPLY_BYTES = 16 * 1024 * 1024
LIVES = 5
"""How many processes may die with a call in hand before the call is held to be the cause."""
NOT_BEGUN = (stock.MalformedRequest, stock.MethodNotFound, IncorrectSignature)
"""Errors of a request that no method has seen."""


def wire_error(error: BaseException) -> dict[str, Any]:
    """Nameko's error payload: every value a string, and the slug where the error has one.

    An error without a slug is a fault of ours: its text stays in the log.
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
    """Sends the reply in the encoding of the request; to nobody when there is no reply address.

    A request in an encoding that is not accepted is answered in JSON. The reply leaves on the channel
    that the request came by, before its ack: a broker that knows of the ack has the reply as well,
    so that a confirm would say nothing new.
    """

    def __init__(self, exchange: str, message: Any, accept: Container[str]) -> None:
        self.exchange = exchange
        self.message = message
        self.accept = accept

    def send_response(self, result: Any, exc_info: Any) -> tuple[Any, Any]:
        properties = self.message.properties
        serializer = kombu.serialization.registry.type_to_name.get(properties.get("content_type"), "json")
        if serializer not in self.accept:
            serializer = "json"
        error = wire_error(exc_info[1]) if exc_info else None
        reply = _encoded({"result": None if error else result, "error": error}, serializer)
        reply_to = properties.get("reply_to")
        if reply_to is None:
            log.warning("a call without a reply address was executed: nobody gets its answer")
            return result, exc_info
        content_type, content_encoding, body = reply
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


def _encoded(reply: Mapping[str, Any], serializer: str) -> tuple[str, str, str | bytes]:
    """Content type, encoding and body: an error in place of what can't be sent."""
    try:
        encoded: tuple[str, str, str | bytes] = kombu.serialization.dumps(reply, serializer)
        if len(encoded[2]) <= MAX_REPLY_BYTES:
            return encoded
        problem = f"the result has more than {MAX_REPLY_BYTES} bytes"
    except Exception:
        log.exception("the result can't be sent as %s", serializer)
        problem = "result"
    error = wire_error(UnserializableValueError(problem))
    return kombu.serialization.dumps({"result": None, "error": error}, serializer)  # type: ignore[no-any-return]


class RpcConsumer(stock.RpcConsumer):
    """Answers, or parks where nobody can be answered, whatever arrives."""

    consumer_cls = DrainingConsumer

    def setup(self) -> None:
        super().setup()
        self._letters = DeadLetters(self.queue.name, retries=False)
        self.consumer.declare_beside = self._letters.declare
        self.consumer.on_undecodable = self._on_undecodable

    def stop(self) -> None:
        super().stop()
        if not self.container._being_killed:
            self.consumer.drained.wait(DRAIN_SECONDS)

    def handle_message(self, body: Any, message: Any) -> None:
        message.headers = validated_context(message.headers)
        if message.delivery_info.get("redelivered"):
            self._aside(message, partial(self._revive, message))
        else:
            super().handle_message(body, message)

    def handle_result(self, message: Any, result: Any, exc_info: Any) -> tuple[Any, Any]:
        if exc_info and isinstance(exc_info[1], NOT_BEGUN) and not message.properties.get("reply_to"):
            self._aside(message, partial(self._park, message, str(exc_info[1])))
            return result, exc_info
        responder = Responder(self.queue.exchange.name, message, self.consumer.accept)
        try:
            result, exc_info = responder.send_response(result, exc_info)
        except Exception:  # the call was executed; who waits for its answer asks again
            log.exception("the reply could not be sent")
        self.consumer.ack_message(message)
        return result, exc_info

    def get_provider_for_method(self, routing_key: str) -> Any:
        method = routing_key.removeprefix(f"{self.container.service_name}.")
        for provider in self._providers:
            if provider.method_name == method:
                return provider
        raise stock.MethodNotFound(method)

    def _on_undecodable(self, message: Any, error: Exception) -> None:
        malformed = stock.MalformedRequest(f"the body can't be read: {error}")
        answer = partial(self.handle_result, message, None, (type(malformed), malformed, None))
        self.container.spawn_managed_thread(answer, identifier="undecodable")

    def _revive(self, message: Any) -> None:
        """The process that had it before died, perhaps of it: it comes back as a new message that
        counts its lives. The broker counts none, for RPC queues are of the classic kind."""
        deadline = deadline_of(message.headers, prefix="nameko.")
        lost = count_in(message.headers, LIVES_LOST) + 1
        if deadline is not None and deadline <= time.time():
            return  # nobody waits for it any more, and who still wants it asks again
        if lost >= LIVES:
            self._park(message, f"{lost} processes died of it")
        else:
            way = {name: message.delivery_info[name] for name in ("exchange", "routing_key")}
            self._letters.give_again(message, way=way, **{LIVES_LOST: lost})

    def _park(self, message: Any, reason: str) -> None:
        self._letters.park(message, reason, str(message.delivery_info["routing_key"]))

    def _aside(self, message: Any, act: Callable[[], None]) -> None:
        """In a thread of its own: the consumer does not wait for it."""
        settle = partial(self.consumer.settle, message, act)
        self.container.spawn_managed_thread(settle, identifier=f"aside {self.queue.name}")


class Rpc(stock.Rpc):
    """An RPC entrypoint. Drops, with an error for the caller, what arrives after its deadline."""

    rpc_consumer = RpcConsumer()

    def setup(self) -> None:
        super().setup()
        self._signature = _Signature(getattr(self.container.service_cls, self.method_name))

    def handle_message(self, body: Any, message: Any) -> None:
        deadline = deadline_of(message.headers, prefix="nameko.")
        if deadline is not None and deadline <= time.time():
            raise errors.DeadlineExceeded("the request was too old when it arrived")
        if not isinstance(body, Mapping) or "args" not in body or "kwargs" not in body:
            raise stock.MalformedRequest("the body is not an object with `args` and `kwargs`")
        args, kwargs = body["args"], body["kwargs"]
        if not self._signature.fits(args, kwargs):
            self.check_signature(args, kwargs)
        start_worker(
            self.container,
            self,
            args,
            kwargs,
            context_data=decode_from_headers(message.headers),
            handle_result=partial(self.handle_result, message),
            on_killed=partial(self.rpc_consumer.consumer.requeue_message, message),
        )


class _Signature:
    """Knows the common case at once: arguments by name, of a method that takes them by name."""

    def __init__(self, method: Callable[..., Any]) -> None:
        _, *parameters = inspect.signature(method).parameters.values()  # without self
        by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        self._names = {one.name for one in parameters if one.kind in by_name}
        self._required = {one.name for one in parameters if one.default is one.empty} & self._names
        self._simple = all(one.kind in by_name for one in parameters)

    def fits(self, args: Any, kwargs: Any) -> bool:
        """False where only a closer look can tell."""
        if args or not self._simple or not isinstance(kwargs, dict):
            return False
        return self._required <= kwargs.keys() <= self._names


rpc = Rpc.decorator
