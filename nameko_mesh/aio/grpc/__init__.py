"""A gRPC client for asyncio that balances the load between instances."""
