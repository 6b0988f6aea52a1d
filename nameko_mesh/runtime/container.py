"""A service container that waits for its broker, and leaves discovery before it drains.

    SERVICE_CONTAINER_CLS: nameko_mesh.runtime.Container     in the configuration

It differs from Nameko's container in four points:

- It waits for the broker. Nameko's container exits when the broker is down at the start.
- It ends when it is killed during its start. Nameko's container hangs.
- It first calls `leave()` on each extension that has the method, and then stops extensions as Nameko does. So
  Consul forgets an instance before the instance stops taking calls, and open streams end before their workers
  are awaited.
- It drops a call after its deadline, however long the call waited for a worker. It sets the deadline for
  waits and logs inside the call (nameko_mesh.deadline).
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from threading import Event
from typing import Any

import eventlet
from kombu.connection import Connection
from nameko import config
from nameko.containers import ServiceContainer

from nameko_mesh import deadline, gc_tuning
from nameko_mesh.amqp import serialization
from nameko_mesh.backoff import back_off
from nameko_mesh.context import deadline_of
from nameko_mesh.errors import DeadlineExceeded
from nameko_mesh.log import FaultFilter

log = logging.getLogger(__name__)
nameko_log = logging.getLogger("nameko.containers")

CONNECT_TIMEOUT_SECONDS = 3
START_POLL_SECONDS = 0.05

_fault_filter = FaultFilter()


class Container(ServiceContainer):
    """Nameko's container with a patient start and an orderly stop."""

    def __init__(self, service_cls: type) -> None:
        serialization.install()
        nameko_log.addFilter(_fault_filter)  # the logger keeps one copy of a filter
        self._leaving = Event()
        super().__init__(service_cls)

    def start(self) -> None:
        self._wait_for_broker()
        if self._leaving.is_set():
            return
        starting = eventlet.spawn(super().start)
        while not starting.dead:
            if self._died.ready():
                starting.kill()
                self._died.wait()  # raises the error that killed the container
                return
            eventlet.sleep(START_POLL_SECONDS)
        starting.wait()
        gc_tuning.freeze_startup_objects()

    def stop(self) -> None:
        self._leaving.set()
        if not self.started:  # still waiting for the broker
            if not self._died.ready():
                self._died.send(None)
            return
        if not self._died.ready() and not self._being_killed:
            self._leave()
        super().stop()

    def _leave(self) -> None:
        """Call `leave()` on the extensions. Dependencies come first, because Presence is a dependency."""
        for extension in (*self.dependencies, *self.extensions.difference(self.dependencies)):
            leave = getattr(extension, "leave", None)
            if leave is not None:
                try:
                    leave()
                except Exception:
                    log.exception("%r did not leave cleanly", extension)

    def _run_worker(self, worker_ctx: Any, handle_result: Callable[..., tuple[Any, Any]] | None) -> None:
        """Run a worker as Nameko does, without Nameko's timing of each step.

        Gain: a call takes 24 µs in place of 29 (`python -m bench.tricks.workers`). Delete the override of the
        steps when Nameko stops timing them; the deadline must then be set elsewhere, such as in a
        worker_setup.
        """
        deadline.start(deadline_of(worker_ctx.context_data))
        log.debug("%s begins", worker_ctx)
        is_wanted = getattr(worker_ctx.entrypoint, "is_wanted", None)
        if is_wanted is not None and not is_wanted(worker_ctx):
            return  # the caller left while the call waited for a worker
        self._inject_dependencies(worker_ctx)
        self._worker_setup(worker_ctx)
        result, exc_info = self._call_method(worker_ctx)
        if handle_result is not None:
            result, exc_info = handle_result(worker_ctx, result, exc_info)
        self._worker_result(worker_ctx, result, exc_info)
        del exc_info  # breaks a reference cycle
        self._worker_teardown(worker_ctx)

    def _call_method(self, worker_ctx: Any) -> tuple[Any, Any]:
        """Return the result and the exc_info of the method; do not call it after the deadline."""
        if deadline.expired():
            error = DeadlineExceeded("the deadline passed while the call waited for a worker")
            log.warning("%s is dropped: %s", worker_ctx, error)
            return None, (type(error), error, None)
        try:
            method = getattr(worker_ctx.service, worker_ctx.entrypoint.method_name)
            return method(*worker_ctx.args, **worker_ctx.kwargs), None
        except Exception as error:
            if isinstance(error, worker_ctx.entrypoint.expected_exceptions):
                nameko_log.warning(
                    "(expected) error handling worker %s: %s", worker_ctx, error, exc_info=True
                )
            else:
                nameko_log.exception("error handling worker %s: %s", worker_ctx, error)
            return None, sys.exc_info()

    def _wait_for_broker(self) -> None:
        """Wait until the broker accepts a connection or `stop` is called.

        Without AMQP_URI return at once, because the extensions name missing settings.
        """
        uri = config.get("AMQP_URI")
        failures = 0
        while uri and not self._leaving.is_set():
            error = _connection_error(uri)
            if error is None:
                return
            failures += 1
            if failures == 1:
                log.warning("the broker does not answer, waiting for it: %s", error)
            self._leaving.wait(back_off(failures))


def _connection_error(uri: str) -> Exception | None:
    """Connect to the broker once. Return the error, or None on success."""
    options = {"connect_timeout": CONNECT_TIMEOUT_SECONDS, "ssl": config.get("AMQP_SSL")}
    failures: tuple[type[Exception], ...] = (*Connection(uri).connection_errors, OSError)
    try:
        with Connection(uri, **options) as connection:
            connection.connect()
    except failures as error:
        return error
    return None
