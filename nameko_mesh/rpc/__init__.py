"""RPC over AMQP, wire-compatible with Nameko."""
