"""Calls from one service to another: answers that arrive in time, or errors that say why.

    products = ServiceClient("products", timeout=1.5)     in place of nameko.rpc.ServiceRpc

Speaks to stock Nameko on the other side. What it adds: a call ends with the deadline of the request
that caused it, and so does its message; refusals come back with their slug; what was given up is
forgotten.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from amqp.exceptions import AMQPError
from eventlet import Timeout
from kombu.exceptions import KombuError
from nameko import rpc as stock
from nameko.exceptions import UnknownService as StockUnknownService

from mesh import errors
from mesh.context import deadline_of
from mesh.self_call import SelfCalling

ANSWER_SECONDS = 0.15
"""What is kept of a request's time to answer it after a call of its own has timed out."""


class ReplyListener(stock.ReplyListener):
    """Nameko's, and it can be asked whether it hears anything: without it a service is not ready."""

    class consumer_cls(SelfCalling, stock.ReplyListener.ReplyConsumer):  # noqa: N801 - Nameko's name
        pass


class ServiceClient(stock.ServiceRpc):
    """Injects a client of another service whose calls end within `timeout` seconds, or sooner when
    the request in hand has less time left."""

    reply_listener = ReplyListener()

    def __init__(self, target_service: str, timeout: float = 2.0, **publisher_options: Any) -> None:
        self.timeout = timeout
        super().__init__(target_service, **publisher_options)

    def get_dependency(self, worker_ctx: Any) -> Caller:
        return Caller(self, dict(worker_ctx.context_data))


class Caller:
    """`caller.method(**arguments)` calls the method.

    Raises Refused, RemoteFault, UnknownService, Unavailable or DeadlineExceeded (mesh.errors).
    """

    def __init__(self, provider: ServiceClient, context: dict[str, Any]) -> None:
        self._provider = provider
        self._context = context

    def __getattr__(self, method: str) -> Callable[..., Any]:
        if method.startswith("_"):
            raise AttributeError(method)
        return partial(self._call, method)

    def _call(self, method: str, **arguments: Any) -> Any:
        service, listener = self._provider.target_service, self._provider.reply_listener
        now = time.time()
        deadline = now + self._provider.timeout
        if (inherited := deadline_of(self._context)) is not None:
            deadline = min(deadline, inherited - ANSWER_SECONDS)
        if deadline <= now:
            raise errors.DeadlineExceeded(f"no time is left to call {service}.{method}")
        pending: list[str] = []

        def register(correlation_id: str) -> Any:
            pending.append(correlation_id)
            return listener.register_for_reply(correlation_id)

        publish = partial(self._provider.publisher.publish, expiration=deadline - now)
        client = stock.Client(publish, register, {**self._context, "deadline": deadline}, service, method)
        try:
            with Timeout(
                deadline - now, errors.DeadlineExceeded(f"{service}.{method} did not answer in time")
            ):
                reply = client.call_async(**arguments).get_response()
        except StockUnknownService as error:
            raise errors.UnknownService(f"no service {service} is known to the broker") from error
        except (AMQPError, KombuError, OSError) as error:
            raise errors.Disconnected(f"the broker went away during {service}.{method}") from error
        finally:
            for correlation_id in pending:
                listener.pending.pop(correlation_id, None)  # Nameko keeps what was given up, for ever
        if reply.get("error"):
            raise errors.from_wire(reply["error"])
        return reply["result"]
