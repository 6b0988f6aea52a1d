"""An AMQP 0-9-1 client for asyncio: one connection, its channels, and what Nameko sends over them."""
