"""Errors of calls between processes, from the view of the caller.

    MeshError
    ├── Refused              the peer refused the request, with a public slug and a message
    ├── RemoteFault          the peer failed; its error text belongs in logs only
    ├── Unavailable          the peer is unreachable now; a later retry may succeed
    │   ├── UnknownService   no queue takes messages for the service
    │   ├── Disconnected     the connection was lost; the call may have been executed
    │   └── Overloaded       a limit of work in flight was reached; nothing was sent
    └── DeadlineExceeded     no reply in time; the call may have been executed

Services raise plain exceptions with an attribute `slug` (see `describe`). On the wire they are Nameko's error
payload with two more keys, `slug` and `field`, which stock Nameko ignores.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class MeshError(Exception):
    """Base of all errors of nameko_mesh. `slug` is stable and public; the message is for people."""

    slug = "internal"


class Refused(MeshError):
    """The peer refused the request. `slug` names the reason."""

    def __init__(self, slug: str, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.slug = slug
        self.message = message
        self.field = field


class RemoteFault(MeshError):
    """The peer raised an unexpected error. Never show `args` to clients."""


class Unavailable(MeshError):
    """The peer is unreachable now."""

    slug = "unavailable"


class UnknownService(Unavailable):
    """No queue is bound for the service, because it has never started on this broker."""


class Disconnected(Unavailable):
    """The connection was lost. The call may have been executed."""


class Overloaded(Unavailable):
    """A limit of work in flight was reached. Nothing was sent."""


class DeadlineExceeded(MeshError):
    """No reply arrived in time. The call may have been executed."""

    slug = "deadline-exceeded"


# Nameko's errors for requests that were rejected before execution.
_MALFORMED = frozenset({"MalformedRequest", "MethodNotFound", "IncorrectSignature"})


def describe(error: BaseException) -> dict[str, str] | None:
    """Return the public part of an exception: `{"code", "message"}`, and `"field"` if it has one.

    Return None for an exception without a slug, because its text is not public.
    """
    slug = getattr(error, "slug", None)
    if not isinstance(slug, str):
        return None
    public = {"code": slug, "message": str(error)}
    field = getattr(error, "field", None)
    if field is not None:
        public["field"] = str(field)
    return public


def from_public(public: Mapping[str, str]) -> Refused:
    """Return the error of one failed item of a batch: the inverse of `describe`."""
    return Refused(public["code"], public["message"], public.get("field"))


def from_wire(error: Mapping[str, Any]) -> MeshError:
    """Return the exception for the `error` of a Nameko reply: Refused with a slug, else RemoteFault."""
    value = str(error.get("value", ""))
    if isinstance(slug := error.get("slug"), str):
        return Refused(slug, value, error.get("field"))
    exc_type = str(error.get("exc_type"))
    if exc_type in _MALFORMED:
        return Refused("validation-failed", f"{exc_type}: {value}")
    return RemoteFault(exc_type, value)
