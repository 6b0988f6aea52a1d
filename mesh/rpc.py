"""RPC entrypoints: Nameko's protocol, whatever arrives.

    @rpc                in place of nameko.rpc.rpc

Speaks to stock Nameko on the other side. What it adds: SIGTERM loses no reply and executes nothing
twice; refusals cross the wire with their slug; what comes too late is not done; what can't be read is
answered, or parked where nobody can be; nothing that is sent can end the process. mesh.client calls.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Container, Mapping
from functools import partial
from typing import Any

import kombu.serialization
from eventlet import Timeout
from nameko import rpc as stock
from nameko.exceptions import IncorrectSignature, UnserializableValueError, get_module_path

from mesh import errors
from mesh.context import deadline_of, validated_context
from mesh.dead_letters import LIVES_LOST, DeadLetters, count_in
from mesh.draining import DRAIN_SECONDS, DrainingConsumer
from mesh.settings import broker_options

log = logging.getLogger(__name__)

REPLY_SECONDS = 5.0
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

    A request in an encoding that is not accepted is answered in JSON.
    """

    def __init__(self, *args: Any, accept: Container[str], **options: Any) -> None:
        super().__init__(*args, **options)
        self.accept = accept

    def send_response(self, result: Any, exc_info: Any) -> tuple[Any, Any]:
        content_type = self.message.properties.get("content_type", "application/json")
        serializer = kombu.serialization.registry.type_to_name.get(content_type)
        if serializer not in self.accept:
            serializer = "json"
        error = wire_error(exc_info[1]) if exc_info else None
        if error is None:
            try:
                kombu.serialization.dumps(result, serializer)
            except Exception:
                log.exception("the result can't be sent as %s", serializer)
                result, error = None, wire_error(UnserializableValueError("result"))
        reply_to = self.message.properties.get("reply_to")
        if reply_to is None:
            log.warning("a call without a reply address was executed: nobody gets its answer")
            return result, exc_info
        publisher = self.publisher_cls(self.amqp_uri, ssl=self.ssl, login_method=self.login_method)
        # A broker that is frozen must not hold the worker: the caller gives up sooner than this.
        with Timeout(REPLY_SECONDS, TimeoutError("the broker takes no reply")):
            publisher.publish(
                {"result": None if error else result, "error": error},
                serializer=serializer,
                exchange=self.exchange,
                routing_key=reply_to,
                correlation_id=self.message.properties.get("correlation_id"),
                transport_options={"max_retries": 0, "confirm_timeout": REPLY_SECONDS},
            )
        return result, exc_info


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
        exchange, accept = stock.get_rpc_exchange(), self.consumer.accept
        responder = Responder(self.amqp_uri, exchange, message, accept=accept, **broker_options())
        try:
            result, exc_info = responder.send_response(result, exc_info)
        except Exception:  # the call was executed; who waits for its answer asks again
            log.exception("the reply could not be sent")
        self.consumer.ack_message(message)
        return result, exc_info

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

    def handle_message(self, body: Any, message: Any) -> None:
        deadline = deadline_of(message.headers, prefix="nameko.")
        if deadline is not None and deadline <= time.time():
            raise errors.DeadlineExceeded("the request was too old when it arrived")
        if not isinstance(body, Mapping):
            raise stock.MalformedRequest("the body is not an object with `args` and `kwargs`")
        super().handle_message(body, message)


rpc = Rpc.decorator
