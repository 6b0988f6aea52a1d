"""Typed clients of the services: one class for each service, one method for each RPC method in use."""
