"""Run a command again when another transaction got in its way."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from sqlalchemy import exc
from tenacity import retry, retry_if_exception, stop_after_attempt, wait_random_exponential

from nameko_mesh.sql.write_batch import StaleWrite

P = ParamSpec("P")
R = TypeVar("R")

_CONFLICTS = {"40001", "40P01", "55P03"}  # serialization failure, deadlock, lock not available (PostgreSQL)


def is_conflict(error: BaseException) -> bool:
    """Return True if another transaction caused the error, so that the same command may succeed when
    repeated."""
    if isinstance(error, exc.IntegrityError | StaleWrite):
        return True
    return isinstance(error, exc.DBAPIError) and getattr(error.orig, "pgcode", None) in _CONFLICTS


def optimistically(attempt: Callable[[], R], fallback: Callable[[], R]) -> R:
    """Call `attempt`, which writes without reading first. If its assumptions were wrong, call `fallback`."""
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
    """Decorate a command that may conflict with another one: run it again, from the start, up to
    three times."""
    retried = _retry(command)

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        return optimistically(lambda: command(*args, **kwargs), lambda: retried(*args, **kwargs))

    return run
