"""A mesh of Nameko services: RPC, events, an outbox, databases, gRPC and discovery.

Its parts form two sides that never run in one process. The Nameko extensions need eventlet's monkey patching.
`nameko_mesh.aio` needs asyncio without it. Both sides share the modules that need neither, such as
`nameko_mesh.errors` and `nameko_mesh.events.schema`.

Import from the packages: this module imports nothing.

    rpc, events, grpc     entrypoints and clients of Nameko services
    sql, outbox           transactions, and events that are published at least once
    runtime               the service container, health checks, registration with Consul
    discovery, amqp       Consul and RabbitMQ, on which the packages above are built
    aio                   clients for asyncio programs
"""

__all__: list[str] = []
