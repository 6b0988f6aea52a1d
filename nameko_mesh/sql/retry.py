"""Runs a command again when another transaction has conflicted with it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from sqlalchemy import exc
from tenacity import retry, retry_if_exception, stop_after_attempt, wait_random_exponential

from nameko_mesh.sql.statement import StaleWrite

P = ParamSpec("P")
R = TypeVar("R")

_CONFLICTS = {"40001", "40P01", "55P03"}  # serialization failure, deadlock, lock not available (PostgreSQL)


def is_conflict(error: BaseException) -> bool:
    """Return True if another transaction caused the error, so that a repeated command may succeed."""
    if isinstance(error, exc.IntegrityError | StaleWrite):
        return True
    return isinstance(error, exc.DBAPIError) and getattr(error.orig, "pgcode", None) in _CONFLICTS


def optimistically(attempt: Callable[[], R], fallback: Callable[[], R]) -> R:
    """Return the result of `attempt`. After a conflict, return the result of `fallback`.

    Meant for an attempt that writes without reading first, and a fallback that locks the rows.
    """
    try:
        return attempt()
    except (exc.DBAPIError, StaleWrite) as error:
        if not is_conflict(error):
            raise
    return fallback()


_retry = retry(
    retry=retry_if_exception(is_conflict),
    stop=stop_after_attempt(3),
    wait=wait_random_exponential(multiplier=0.02, max=0.2),
    reraise=True,
)


def retry_on_conflict(command: Callable[P, R]) -> Callable[P, R]:
    """Decorate a command that may conflict with another command: run it up to four times, from the start.

    The first attempt bypasses tenacity, because nearly all commands succeed at once. The second follows
    without a delay, because the other transaction has ended by then.
    """
    retried = _retry(command)

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        return optimistically(lambda: command(*args, **kwargs), lambda: retried(*args, **kwargs))

    return run
