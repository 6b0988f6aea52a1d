"""What can go wrong between two processes, as a caller meets it.

    MeshError
    ├── Refused              the peer understood and said no: a public slug and a message
    ├── RemoteFault          the peer broke while it worked; what it said is for logs alone
    ├── Unavailable          nobody can be asked now; trying again later may help
    │   ├── UnknownService   no queue takes messages for that service
    │   ├── Disconnected     the connection went away; the call may still have been executed
    │   └── Overloaded       a bound on work in flight was reached; nothing was sent
    └── DeadlineExceeded     no answer in time; the call may still be executed

Services raise plain exceptions that carry a `slug` (see `describe`); on the wire they are
Nameko's own error payload with the keys `slug` and `field` added, which stock Nameko ignores.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class MeshError(Exception):
    """Base of every error of the mesh. `slug` is stable and public; the message is for people."""

    slug = "internal"


class Refused(MeshError):
    """The peer understood the request and refused it, for the reason that `slug` names."""

    def __init__(self, slug: str, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.slug = slug
        self.message = message
        self.field = field


class RemoteFault(MeshError):
    """The peer raised something it did not mean to. Never show `args` outside the mesh."""


class Unavailable(MeshError):
    """The peer can't be asked now."""

    slug = "unavailable"


class UnknownService(Unavailable):
    """No queue is bound for the service: it has never started on this broker."""


class Disconnected(Unavailable):
    """The broker's connection was lost. Whether the call was executed is not known."""


class Overloaded(Unavailable):
    """Too much is in flight already. Nothing was sent."""


class DeadlineExceeded(MeshError):
    """No answer arrived in time. Whether the call was executed is not known."""

    slug = "deadline-exceeded"


# Nameko's own errors for a request that a service could not even begin.
_MALFORMED = frozenset({"MalformedRequest", "MethodNotFound", "IncorrectSignature"})


def describe(error: BaseException) -> dict[str, str] | None:
    """The public face of an exception: `{"code", "message"}` and perhaps `"field"`.

    None for an exception without a slug, about which nothing may be told.
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
    """The inverse of `describe`, for one failed item of a batch."""
    return Refused(public["code"], public["message"], public.get("field"))


def from_wire(error: Mapping[str, Any]) -> MeshError:
    """The exception for the `error` of a Nameko reply: `Refused` with a slug, else `RemoteFault`."""
    value = str(error.get("value", ""))
    if isinstance(slug := error.get("slug"), str):
        return Refused(slug, value, error.get("field"))
    exc_type = str(error.get("exc_type"))
    if exc_type in _MALFORMED:
        return Refused("validation-failed", f"{exc_type}: {value}")
    return RemoteFault(exc_type, value)
