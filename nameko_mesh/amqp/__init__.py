"""AMQP: the connection to RabbitMQ, its consumers, and confirmed publishing.

`frames` encodes and decodes AMQP 0-9-1, and `serialization` JSON; `transport` opens connections; `publish`
sends on a channel; `consumer` drains before it closes; `consumer_probe` checks that a consumer receives;
`confirmed_publisher` publishes batches; `dead_letters` retries and parks failed messages.

Import from these modules: this package imports nothing, because asyncio programs use `frames` without
eventlet and Nameko.

The headers of a message, and the module to change for a new header:

    nameko.*    the context of a call or event      nameko_mesh.context checks them; senders pass `context`
    x-*         retries and parking                 dead_letters
    bundled     an event that also left in a bundle nameko_mesh.events.exchanges
"""

__all__: list[str] = []
