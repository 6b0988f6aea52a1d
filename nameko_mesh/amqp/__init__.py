"""AMQP: the connection to RabbitMQ, its consumers, and confirmed publishing.

`frames` encodes and decodes AMQP 0-9-1, and `serialization` JSON; `transport` opens connections; `publish`
sends on a channel; `consumer` drains before it closes; `consumer_probe` checks that a consumer receives;
`confirmed_publisher` publishes batches; `dead_letters` retries and parks failed messages.

Import from these modules: this package imports nothing, because asyncio programs use `frames` without
eventlet and Nameko.
"""

__all__: list[str] = []
