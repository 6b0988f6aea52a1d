"""A mesh of Nameko services: RPC, events, an outbox, databases, gRPC and discovery.

A process uses either the Nameko extensions, which need eventlet's monkey patching, or `nameko_mesh.aio`,
which needs asyncio without monkey patching. Both share the modules that need neither, such as
`nameko_mesh.errors` and `nameko_mesh.events.schema`.

Import from the packages: this module imports nothing. A part may import parts with a smaller number only.
import-linter checks this rule (pyproject.toml, `[tool.importlinter]`).

    4  runtime         the service container, health checks, registration with Consul
    4  outbox          events that are committed with their cause and published at least once
    3  events, rpc     entrypoints and clients of Nameko services
    3  sql             transactions on PostgreSQL and SQLite
    3  aio             clients for asyncio programs
    2  amqp            RabbitMQ: connections, consumers, confirmed publishing, dead letters
    2  discovery       Consul: registration, and the instances of a service
    2  grpc            gRPC entrypoints
    1  errors, outcome, paging, context, deadline, settings, log, backoff, fair_lock, gc_tuning
"""

__all__: list[str] = []
