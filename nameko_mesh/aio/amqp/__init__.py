"""The AMQP client of asyncio programs."""
