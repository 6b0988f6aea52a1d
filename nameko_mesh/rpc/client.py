"""Calls from one service to another: answers that arrive in time, or errors that say why.

    products = ServiceClient("products", timeout=1.5)     in place of nameko.rpc.ServiceRpc

Speaks to stock Nameko on the other side. What it adds: a call ends with the deadline of the request
that caused it, and so does its message; refusals come back with their slug; what was given up is
forgotten.
"""

from __future__ import annotations

import itertools
import logging
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from threading import Event
from typing import Any

import kombu.serialization
from amqp.exceptions import AMQPError
from eventlet import Timeout
from eventlet.event import Event as Result
from kombu.exceptions import KombuError
from nameko import rpc as stock
from nameko.extensions import DependencyProvider
from nameko.messaging import encode_to_headers

from nameko_mesh import errors
from nameko_mesh.amqp.consumer_probe import ProbedConsumer
from nameko_mesh.amqp.publish import send
from nameko_mesh.context import deadline_of

log = logging.getLogger(__name__)

ANSWER_SECONDS = 0.15
"""What is kept of a request's time, to answer it after a call of its own has timed out."""


class ReplyConsumer(ProbedConsumer, stock.ReplyListener.ReplyConsumer):
    """Calls leave, and replies come, on one channel. A reply is not acked: when the connection goes,
    whoever waits is told so at once."""

    def __init__(self, listener: ReplyListener, *args: Any, **kwargs: Any) -> None:
        super().__init__(listener.check_for_lost_replies, *args, no_ack=True, **kwargs)
        self.listener = listener
        self.channel: Any = None
        """None while there is no connection."""
        self.connected = Event()

    def on_consume_ready(self, connection: Any, channel: Any, consumers: Any, **kwargs: Any) -> None:
        channel.events["basic_return"].add(self.listener.on_return)
        self.channel = channel
        self.connected.set()
        super().on_consume_ready(connection, channel, consumers, **kwargs)

    def consume(self, *args: Any, **kwargs: Any) -> Iterator[None]:
        try:
            yield from super().consume(*args, **kwargs)
        finally:
            self.channel = None
            self.connected.clear()
            self.listener.on_lost()

    def on_message(self, body: Any, message: Any) -> None:
        self.listener.handle_message(body, message)

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        self.listener.on_unreadable(message, exc)


class ReplyListener(stock.ReplyListener):
    """Nameko's, and it sends the calls as well. It can be asked whether it hears anything: without it a
    service is not ready."""

    def consumer_cls(self, _: Any, *args: Any, **kwargs: Any) -> ReplyConsumer:
        return ReplyConsumer(self, *args, **kwargs)

    def setup(self) -> None:
        super().setup()
        self._ids = map("{}-{}".format, itertools.repeat(uuid.uuid4().hex), itertools.count())

    def check_for_lost_replies(self) -> None:
        """Nobody waits for any: they have been told when the connection went."""

    def call(
        self, service: str, method: str, arguments: Mapping[str, Any], context: dict[str, Any], seconds: float
    ) -> Any:
        """The body of the reply. The caller bounds the wait; `seconds` is how long the broker keeps the
        call, and for half of them a broker that has just gone is waited for.

        Raises Disconnected, UnknownService, and what the serializer says of the arguments.
        """
        content_type, content_encoding, body = kombu.serialization.dumps(
            {"args": (), "kwargs": arguments}, self.container.serializer
        )
        if self.consumer.channel is None:
            self.consumer.connected.wait(seconds / 2)
        channel = self.consumer.channel
        if channel is None:
            raise errors.Disconnected(f"the broker is away: {service}.{method} was not called")
        call = next(self._ids)
        reply = self.pending[call] = Result()
        try:
            send(
                channel,
                body.encode(content_encoding) if isinstance(body, str) else body,
                exchange=self.queue.exchange.name,
                routing_key=f"{service}.{method}",
                content_type=content_type,
                content_encoding=content_encoding,
                headers=encode_to_headers(context),
                mandatory=True,
                reply_to=self.routing_key,
                correlation_id=call,
                expiration=str(max(1, int(seconds * 1000))),
            )
            return reply.wait()
        except (AMQPError, KombuError, OSError) as error:
            raise errors.Disconnected(f"the broker went away during {service}.{method}") from error
        finally:
            self.pending.pop(call, None)

    def handle_message(self, body: Any, message: Any) -> None:
        self._settle(message, lambda reply: reply.send(body))

    def on_unreadable(self, message: Any, error: Exception) -> None:
        fault = errors.RemoteFault("MalformedAnswer", f"the answer can't be read: {error}")
        self._settle(message, lambda reply: reply.send_exception(fault))

    def on_return(self, _: Any, exchange: str, routing_key: str, message: Any) -> None:
        service = routing_key.partition(".")[0]
        unknown = errors.UnknownService(f"no service {service} is known to the broker")
        self._settle(message, lambda reply: reply.send_exception(unknown))

    def on_lost(self) -> None:
        for call in list(self.pending):
            self.pending.pop(call).send_exception(errors.Disconnected("the broker went away during a call"))

    def _settle(self, message: Any, tell: Callable[[Result], None]) -> None:
        reply = self.pending.pop(message.properties.get("correlation_id"), None)
        if reply is None:
            log.debug("an answer that nobody waits for any longer")
        else:
            tell(reply)


class ServiceClient(DependencyProvider):
    """Injects a client of another service whose calls end within `timeout` seconds, or sooner when
    the request in hand has less time left: `spare` seconds of it are for what comes after the call, but no
    more than half, and ANSWER_SECONDS at least."""

    reply_listener = ReplyListener()

    def __init__(self, target_service: str, timeout: float = 2.0, spare: float = ANSWER_SECONDS) -> None:
        self.target_service = target_service
        self.timeout = timeout
        self.spare = spare

    def get_dependency(self, worker_ctx: Any) -> Caller:
        return Caller(self, dict(worker_ctx.context_data))


class Caller:
    """`caller.method(**arguments)` calls the method.

    Raises Refused, RemoteFault, UnknownService, Unavailable or DeadlineExceeded (nameko_mesh.errors).
    """

    def __init__(self, provider: ServiceClient, context: dict[str, Any]) -> None:
        self._provider = provider
        self._context = context

    def __getattr__(self, method: str) -> Callable[..., Any]:
        if method.startswith("_"):
            raise AttributeError(method)
        return partial(self._call, method)

    def _call(self, method: str, **arguments: Any) -> Any:
        service = self._provider.target_service
        now = time.time()
        deadline = now + self._provider.timeout
        if (inherited := deadline_of(self._context)) is not None:
            spare = max(ANSWER_SECONDS, min(self._provider.spare, (inherited - now) / 2))
            deadline = min(deadline, inherited - spare)
        seconds = deadline - now
        if seconds <= 0:
            raise errors.DeadlineExceeded(f"no time is left to call {service}.{method}")
        context = {**self._context, "deadline": deadline}
        with Timeout(seconds, errors.DeadlineExceeded(f"{service}.{method} did not answer in time")):
            reply = self._provider.reply_listener.call(service, method, arguments, context, seconds)
        if not isinstance(reply, Mapping):
            raise errors.RemoteFault("MalformedAnswer", f"{service}.{method} answered no object")
        if reply.get("error"):
            raise errors.from_wire(reply["error"])
        return reply.get("result")
