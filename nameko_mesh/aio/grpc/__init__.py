"""A gRPC client for asyncio: `balancer` chooses an instance for each call, `instance` makes the call."""
