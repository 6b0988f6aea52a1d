"""gRPC entrypoints on nameko-grpc."""
