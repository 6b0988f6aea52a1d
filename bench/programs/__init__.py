"""Services and clients of the RPC, gRPC and event suites. Each runs as a process of its own."""
