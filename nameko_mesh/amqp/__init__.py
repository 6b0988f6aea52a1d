"""The AMQP wire: frames, transport, consumers and confirmed publishing."""
