"""`python -m bench.tricks.workers`: workers of nameko_mesh beside those of stock Nameko.

Each line is the CPU time of one step in microseconds: the plain way, the trick, and their ratio.
"""

from __future__ import annotations

import eventlet

eventlet.monkey_patch()

import gc  # noqa: E402
from collections.abc import Callable  # noqa: E402
from typing import Any  # noqa: E402

from nameko.containers import ServiceContainer  # noqa: E402
from nameko.testing.services import dummy  # noqa: E402

from bench.tricks.timing import STEPS, Steps, report  # noqa: E402
from nameko_mesh import gc_tuning  # noqa: E402
from nameko_mesh.amqp.consumer import start_worker  # noqa: E402
from nameko_mesh.runtime import Container  # noqa: E402

AT_ONCE = 10
BATCHES = 400


class Service:
    name = "service"

    @dummy
    def method(self) -> None:
        """Do nothing."""


def through_a_thread(container: Any, entrypoint: Any) -> None:
    """Start a worker as Nameko's Rpc does: a green thread waits for the pool, even when it has room."""
    spawn = lambda: container.spawn_worker(entrypoint, (), {})  # noqa: E731
    container.spawn_managed_thread(spawn, identifier="a worker")


def directly(container: Any, entrypoint: Any) -> None:
    start_worker(container, entrypoint, (), {}, on_killed=lambda: None)


def calls(container_cls: type, start: Callable[[Any, Any], None]) -> Steps:
    container = container_cls(Service)
    (entrypoint,) = container.entrypoints

    def steps() -> int:
        for _ in range(STEPS // AT_ONCE):
            for _ in range(AT_ONCE):
                start(container, entrypoint)
            eventlet.sleep(0)
            container._worker_pool.waitall()
        return STEPS

    return steps


def batches() -> int:
    """Make 400 batches of 400 calls each, and hold the latest five, as a busy service does."""
    held: list[Any] = []
    for _ in range(BATCHES):
        held.append([{"args": [], "kwargs": {"id": str(n), "lines": [{"a": [1]}, {}]}} for n in range(400)])
        del held[:-5]
    return BATCHES


def tuned_batches() -> int:
    thresholds = gc.get_threshold()
    gc_tuning.freeze_startup_objects()
    try:
        return batches()
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)


def main() -> None:
    report(
        {
            "consumer.start_worker: a call": (calls(Container, through_a_thread), calls(Container, directly)),
            "gc_tuning: a batch of 400 calls": (batches, tuned_batches),
            "container: a call": (calls(ServiceContainer, directly), calls(Container, directly)),
        }
    )


if __name__ == "__main__":
    main()
