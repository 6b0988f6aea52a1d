"""gRPC entrypoints for Nameko services, on nameko-grpc with an HTTP/2 server of its own.

    from nameko_mesh.grpc import Grpc

    grpc = Grpc.implementing(AccountServiceStub)

    class AccountsService:
        @grpc
        def GetAccount(self, request, context): ...

`entrypoint` holds the entrypoint and its server, `errors` the table of status codes. `health` and
`reflection` are services that a server answers itself. `http2` is the transport, with its limits.

Names are resolved at their first use, so that importing one module does not load the others.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nameko_mesh.grpc.entrypoint import Grpc, GrpcServer
    from nameko_mesh.grpc.errors import CODES

__all__ = ["CODES", "Grpc", "GrpcServer"]

_MODULES = {"CODES": "errors", "Grpc": "entrypoint", "GrpcServer": "entrypoint"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
