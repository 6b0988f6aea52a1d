"""gRPC entrypoints for Nameko services, on nameko-grpc with its own HTTP/2 server.

    from nameko_mesh.grpc import Grpc

    grpc = Grpc.implementing(AccountServiceStub)

    class AccountsService:
        @grpc
        def GetAccount(self, request, context): ...

| modules | task |
|---|---|
| entrypoint | the entrypoint, and the server of a service |
| errors | the table of status codes |
| builtin_methods, health, reflection | methods that the server answers itself |
| http2 | the transport, with its limits |
"""

from nameko_mesh.grpc.entrypoint import Grpc, GrpcServer
from nameko_mesh.grpc.errors import CODES

__all__ = ["CODES", "Grpc", "GrpcServer"]
