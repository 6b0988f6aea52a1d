"""How a message becomes a worker: at once where one is free, without a green thread that waits for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nameko.exceptions import ContainerBeingKilled


def start_worker(
    container: Any, entrypoint: Any, args: Any, kwargs: Any, *, on_killed: Callable[[], None], **options: Any
) -> None:
    """Nameko's `spawn_worker`, which waits while all workers are busy: then, and only then, a thread
    waits in place of the consumer, which has heartbeats to send."""

    def spawn() -> None:
        try:
            container.spawn_worker(entrypoint, args, kwargs, **options)
        except ContainerBeingKilled:
            on_killed()

    pool = container._worker_pool
    if pool.free() > 0 and not pool.waiting():
        spawn()
    else:
        container.spawn_managed_thread(spawn, identifier=f"{entrypoint.method_name} waits for a worker")
