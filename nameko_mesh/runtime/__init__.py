"""The process of a service: its container, its health checks and its registration with Consul.

    SERVICE_CONTAINER_CLS: nameko_mesh.runtime.Container     in the configuration
    presence = Presence()                                    in the service class

`container` starts and stops a service. `presence` serves health over HTTP and registers with Consul.
`probes` checks the consumers and the database.

Changes to the whole process, each made when a service starts and never on import:

| change | made by |
|---|---|
| kombu's JSON, py-amqp's reader of properties | amqp.serialization.install, called by Container |
| psycopg2's wait callback | sql.postgresql.open_postgresql |
| reflection v1 in protobuf's default pool | grpc.reflection.describe_v1, called by GrpcServer |
| a filter on the log `nameko.containers` | Container |
| the garbage collector's settings | gc_tuning, called by Container |

Background threads, and the method that stops each:

| thread | stopped by |
|---|---|
| outbox relay | OutboxRelay.stop, which sends the last rows first |
| pruning | Pruning.stop |
| consumers of events and requests | DrainingExtension.stop, which waits until they have drained |
| consumer of replies | ReplyListener.stop, which is Nameko's |
| registration with Consul | Presence.leave |
| health server | Presence.stop |
| discovery of a service | Instances.stop |
| gRPC listener and connections | GrpcServer.stop, after Grpc.stop has drained |
"""

from nameko_mesh.runtime.container import Container
from nameko_mesh.runtime.presence import Presence

__all__ = ["Container", "Presence"]
