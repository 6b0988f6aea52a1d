"""A service container that waits for its broker, dies when it must, and says goodbye before it drains.

Named in config.yml as SERVICE_CONTAINER_CLS. Four habits of Nameko's own are mended here:

- it exits when the broker is away at the start; this one waits, and starts when the broker is there;
- one that is killed while it starts hangs for ever, with neither consumer nor health: this one ends;
- it stops entrypoints first and dependencies last; but discovery must forget an instance before it
  stops taking calls, and open streams must end before their workers are waited for. Extensions with
  a `leave` method get that chance;
- a call that waits until a worker is free is executed however late that is; here it is dropped after its
  deadline, and what is in time works, waits and logs under its budget (nameko_mesh.deadline).
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
from nameko_mesh.backoff import back_off
from nameko_mesh.context import deadline_of
from nameko_mesh.errors import DeadlineExceeded
from nameko_mesh.log import FaultFilter

log = logging.getLogger(__name__)
nameko_log = logging.getLogger("nameko.containers")

CONNECT_SECONDS = 3
LOOK_SECONDS = 0.05

_fault_filter = FaultFilter()


class Container(ServiceContainer):
    def __init__(self, service_cls: type) -> None:
        nameko_log.addFilter(_fault_filter)  # adding it again changes nothing
        self._leaving = Event()
        super().__init__(service_cls)

    def start(self) -> None:
        self._wait_for_the_broker()
        if self._leaving.is_set():
            return
        starting = eventlet.spawn(super().start)
        while not starting.dead:
            if self._died.ready():
                starting.kill()
                self._died.wait()  # raises what it died of
                return
            eventlet.sleep(LOOK_SECONDS)
        starting.wait()
        gc_tuning.freeze_startup_objects()

    def stop(self) -> None:
        self._leaving.set()
        if not self.started:  # it still waits for the broker: there is nothing to stop
            if not self._died.ready():
                self._died.send(None)
            return
        if not self._died.ready() and not self._being_killed:
            # Dependencies first, for among them is what takes the service out of discovery.
            for extension in (*self.dependencies, *self.extensions.difference(self.dependencies)):
                leave = getattr(extension, "leave", None)
                if leave is not None:
                    try:
                        leave()
                    except Exception:
                        log.exception("%r did not leave cleanly", extension)
        super().stop()

    def _run_worker(self, worker_ctx: Any, handle_result: Callable[..., tuple[Any, Any]] | None) -> None:
        """Nameko's life of a worker, without the stopwatch that it holds to each part of it."""
        deadline.start(deadline_of(worker_ctx.context_data))
        log.debug("%s begins", worker_ctx)
        is_wanted = getattr(worker_ctx.entrypoint, "is_wanted", None)
        if is_wanted is not None and not is_wanted(worker_ctx):
            return  # whoever called has gone while it waited for a worker
        self._inject_dependencies(worker_ctx)
        self._worker_setup(worker_ctx)
        result, exc_info = self._work(worker_ctx)
        if handle_result is not None:
            result, exc_info = handle_result(worker_ctx, result, exc_info)
        self._worker_result(worker_ctx, result, exc_info)
        del exc_info  # breaks a cycle
        self._worker_teardown(worker_ctx)

    def _work(self, worker_ctx: Any) -> tuple[Any, Any]:
        """The result, or the exc_info of why there is none. Work is dropped whose deadline has passed while
        it waited for its turn."""
        if deadline.expired():
            late = DeadlineExceeded("its turn came after the deadline")
            log.warning("%s is dropped: %s", worker_ctx, late)
            return None, (type(late), late, None)
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

    def _wait_for_the_broker(self) -> None:
        """Until it answers, or the container is told to stop. A missing AMQP_URI is for others to name."""
        uri = config.get("AMQP_URI")
        failures = 0
        while uri and not self._leaving.is_set():
            try:
                with Connection(
                    uri, connect_timeout=CONNECT_SECONDS, ssl=config.get("AMQP_SSL")
                ) as connection:
                    connection.connect()
                return
            except (*Connection(uri).connection_errors, OSError) as error:
                failures += 1
                if failures == 1:
                    log.warning("the broker does not answer, waiting for it: %s", error)
                self._leaving.wait(back_off(failures))
