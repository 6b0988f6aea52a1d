"""gRPC calls from asyncio to the less busy of two instances."""
