"""The container class of the services under test, which adds failpoints and mutants.

Production code has no hook for this. config.yml lets the environment name the container class, and this
class wraps the mesh from outside before the service is built. It adds these failpoints to each service:

    <service>.commit.before/after     a transaction that wrote something for a command
    <service>.relay.before/after      the same for the outbox relay's claims and marks
    <service>.publish.before/after    an event on its way to the broker
    <service>.reply.before/after      the answer to a call
    <service>.ack.before/after        a message, call or event
    <service>.<method>.before/after   an entrypoint's own code
    <service>.consuming               the loop that receives messages from the broker
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from nameko.events import BROADCAST

import nameko_mesh.runtime
from nameko_mesh.amqp.consumer import DrainingConsumer
from nameko_mesh.events.batches import BatchHandler
from nameko_mesh.events.handler import EventHandler
from nameko_mesh.outbox import OutboxRelay
from nameko_mesh.outbox.claims import OutboxStore
from nameko_mesh.rpc.entrypoint import Rpc
from nameko_mesh.rpc.responder import Responder
from nameko_mesh.sql import Store
from tests.chaos import mutants
from tests.chaos.failpoints import Failpoints

_WRITES = ("INSERT", "UPDATE", "DELETE")


class Container(nameko_mesh.runtime.Container):
    def __init__(self, service_cls: Any) -> None:
        self._points = Failpoints(Path(os.environ["CHAOS_FOLDER"]))
        _put_into_the_mesh(self._points, service_cls.name)
        mutants.apply(self._points.mutants(), service_cls.name)
        super().__init__(service_cls)

    def spawn_worker(
        self, entrypoint: Any, args: Any, kwargs: Any, context_data: Any = None, handle_result: Any = None
    ) -> Any:
        is_for_all = getattr(entrypoint, "handler_type", None) is BROADCAST  # each instance gets its own copy
        came_by_amqp = isinstance(entrypoint, Rpc | EventHandler)  # calls over gRPC are reads
        if came_by_amqp and not is_for_all:
            method = f"{self.service_name}.{entrypoint.method_name}"
            for execution in _ids_of(entrypoint, args, handle_result.args[0]):
                self._points.note_execution(method, execution)
        return super().spawn_worker(entrypoint, args, kwargs, context_data, handle_result)

    def _run_worker(self, worker_ctx: Any, handle_result: Any) -> None:
        name = worker_ctx.entrypoint.method_name
        point = f"{self.service_name}.{name}"
        method = getattr(worker_ctx.service, name)
        setattr(worker_ctx.service, name, _between(self._points, point, method))
        super()._run_worker(worker_ctx, handle_result)


def _put_into_the_mesh(points: Failpoints, service: str) -> None:
    for owner, method, point in (
        (OutboxRelay, "_publish", "publish"),
        (Responder, "send_response", "reply"),
        (DrainingConsumer, "ack_message", "ack"),
    ):
        setattr(owner, method, _between(points, f"{service}.{point}", getattr(owner, method)))
    DrainingConsumer._wait_for_messages = _while_consuming(points, service)  # type: ignore[method-assign]
    Store.transaction = _with_commit_points(points, service)  # type: ignore[method-assign]


def _between(points: Failpoints, point: str, method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def with_points(*args: Any, **kwargs: Any) -> Any:
        points.reach(f"{point}.before")
        result = method(*args, **kwargs)
        points.reach(f"{point}.after")
        return result

    return with_points


def _while_consuming(points: Failpoints, service: str) -> Callable[..., Any]:
    wait = DrainingConsumer._wait_for_messages

    def wait_for_messages(self: Any, connection: Any) -> Iterator[None]:
        points.reach(f"{service}.consuming")
        yield from wait(self, connection)

    return wait_for_messages


def _with_commit_points(points: Failpoints, service: str) -> Any:
    transaction = Store.transaction

    @contextmanager
    def with_points(self: Any, *, read_only: bool = False) -> Iterator[Any]:
        point = f"{service}.{'relay' if isinstance(self, OutboxStore) else 'commit'}"
        wrote: list[bool] = []
        with transaction(self, read_only=read_only) as tx:
            if not read_only:
                sa.event.listen(tx.connection, "after_cursor_execute", _notes_writes(wrote))
            yield tx
            if tx.has_unsent_writes:
                wrote.append(True)
            tx.flush()
            if wrote:
                points.reach(f"{point}.before")
        if wrote:
            points.reach(f"{point}.after")

    return with_points


def _notes_writes(wrote: list[bool]) -> Callable[..., None]:
    def after_cursor_execute(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith(_WRITES) and cursor.rowcount > 0:
            wrote.append(True)

    return after_cursor_execute


def _ids_of(entrypoint: Any, args: Any, message: Any) -> list[str]:
    """Return the correlation id of a call, or the ids of the events of an execution."""
    if isinstance(entrypoint, Rpc):
        return [str(message.properties.get("correlation_id"))]
    events = args[0] if isinstance(entrypoint, BatchHandler) else args[:1]
    return [str(event.get("event_id")) if isinstance(event, dict) else "none" for event in events]
