"""Calls another service. A call ends by its deadline, with a reply or an error that names the cause.

    inventory = ServiceClient("inventory", timeout=1.5)     in place of nameko.rpc.ServiceRpc

Services of stock Nameko can be called too. The differences to Nameko's client:

- a call, and its message in the queue, expire at the deadline of the request that caused the call;
- refusals keep their public slug;
- a reply that arrives too late is dropped.
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
from nameko_mesh.amqp import serialization
from nameko_mesh.amqp.consumer_probe import ProbedConsumer
from nameko_mesh.amqp.publish import send
from nameko_mesh.context import deadline_of

log = logging.getLogger(__name__)

MIN_SPARE_SECONDS = 0.15
"""Time that a caller keeps to answer its own request after the call has timed out."""


class ReplyConsumer(ProbedConsumer, stock.ReplyListener.ReplyConsumer):
    """Sends calls and receives replies on one channel.

    Replies are not acked, because a lost connection fails all pending calls at once.
    """

    def __init__(self, listener: ReplyListener, *args: Any, **kwargs: Any) -> None:
        super().__init__(listener.check_for_lost_replies, *args, no_ack=True, **kwargs)
        self.listener = listener
        self.channel: Any = None
        """None while the broker is not connected."""
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
            self.listener.on_connection_lost()

    def on_message(self, body: Any, message: Any) -> None:
        self.listener.handle_message(body, message)

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        self.listener.on_undecodable(message, exc)


class ReplyListener(stock.ReplyListener):
    """Nameko's listener, which also sends the calls. Presence probes its consumer for readiness."""

    def consumer_cls(self, _: Any, *args: Any, **kwargs: Any) -> ReplyConsumer:
        """Return the consumer. In stock Nameko this is a class, which gets the listener's check first."""
        return ReplyConsumer(self, *args, **kwargs)

    def setup(self) -> None:
        serialization.install()
        super().setup()
        self._ids = map("{}-{}".format, itertools.repeat(uuid.uuid4().hex), itertools.count())

    def check_for_lost_replies(self) -> None:
        """Do nothing, because `on_connection_lost` has failed the pending calls."""

    def call(
        self, service: str, method: str, arguments: Mapping[str, Any], context: dict[str, Any], seconds: float
    ) -> Any:
        """Call the method and return the body of the reply. The caller bounds the wait for the reply.

        The broker drops the message after `seconds`. While there is no connection, wait for a connection, for
        at most half of `seconds`. Raises Disconnected, UnknownService, and the serializer's errors.
        """
        body, encoding = self._encode(arguments)
        channel = self._wait_for_channel(seconds / 2)
        if channel is None:
            raise errors.Disconnected(f"no connection to the broker: {service}.{method} was not called")
        call_id = next(self._ids)
        reply = self.pending[call_id] = Result()
        try:
            send(
                channel,
                body,
                exchange=self.queue.exchange.name,
                routing_key=f"{service}.{method}",
                headers=encode_to_headers(context),
                mandatory=True,
                reply_to=self.routing_key,
                correlation_id=call_id,
                expiration=str(max(1, int(seconds * 1000))),
                **encoding,
            )
            return reply.wait()
        except (AMQPError, KombuError, OSError) as error:
            raise errors.Disconnected(f"lost the connection during {service}.{method}") from error
        finally:
            self.pending.pop(call_id, None)

    def _encode(self, arguments: Mapping[str, Any]) -> tuple[bytes, dict[str, Any]]:
        call = {"args": (), "kwargs": arguments}
        content_type, encoding, body = kombu.serialization.dumps(call, self.container.serializer)
        encoded = body.encode(encoding) if isinstance(body, str) else body
        return encoded, {"content_type": content_type, "content_encoding": encoding}

    def _wait_for_channel(self, timeout: float) -> Any:
        if self.consumer.channel is None:
            self.consumer.connected.wait(timeout)
        return self.consumer.channel

    def handle_message(self, body: Any, message: Any) -> None:
        self._settle(message, lambda reply: reply.send(body))

    def on_undecodable(self, message: Any, error: Exception) -> None:
        fault = errors.RemoteFault("MalformedAnswer", f"the reply is not decodable: {error}")
        self._settle(message, lambda reply: reply.send_exception(fault))

    def on_return(self, _: Any, exchange: str, routing_key: str, message: Any) -> None:
        """Fail the call whose message the broker returned, because no queue takes the message."""
        service = routing_key.partition(".")[0]
        unknown = errors.UnknownService(f"no service {service} is known to the broker")
        self._settle(message, lambda reply: reply.send_exception(unknown))

    def on_connection_lost(self) -> None:
        for call_id in list(self.pending):
            lost = errors.Disconnected("lost the connection to the broker during a call")
            self.pending.pop(call_id).send_exception(lost)

    def _settle(self, message: Any, settle: Callable[[Result], None]) -> None:
        reply = self.pending.pop(message.properties.get("correlation_id"), None)
        if reply is None:
            log.debug("dropped a reply that arrived too late")
        else:
            settle(reply)


class ServiceClient(DependencyProvider):
    """Injects a `Caller` of another service, whose calls end within `timeout` seconds.

    A call ends earlier when the current request has less time left. The call leaves `spare` seconds of that
    time for the work after the call, but at most half of it, and at least MIN_SPARE_SECONDS.
    """

    reply_listener = ReplyListener()

    def __init__(self, target_service: str, timeout: float = 2.0, spare: float = MIN_SPARE_SECONDS) -> None:
        self.target_service = target_service
        self.timeout = timeout
        self.spare = spare

    def get_dependency(self, worker_ctx: Any) -> Caller:
        return Caller(self, dict(worker_ctx.context_data))


class Caller:
    """Calls the methods of one service: `caller.method(**arguments)`.

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
        deadline = self._deadline(now)
        seconds = deadline - now
        if seconds <= 0:
            raise errors.DeadlineExceeded(f"no time is left to call {service}.{method}")
        context = {**self._context, "deadline": deadline}
        with Timeout(seconds, errors.DeadlineExceeded(f"{service}.{method} did not answer in time")):
            reply = self._provider.reply_listener.call(service, method, arguments, context, seconds)
        if not isinstance(reply, Mapping):
            raise errors.RemoteFault("MalformedAnswer", f"the reply of {service}.{method} is not an object")
        if reply.get("error"):
            raise errors.from_wire(reply["error"])
        return reply.get("result")

    def _deadline(self, now: float) -> float:
        """Return the Unix time by which a call that starts now has to end."""
        deadline = now + self._provider.timeout
        inherited = deadline_of(self._context)
        if inherited is None:
            return deadline
        spare = max(MIN_SPARE_SECONDS, min(self._provider.spare, (inherited - now) / 2))
        return min(deadline, inherited - spare)
