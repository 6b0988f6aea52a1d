"""Consul: registration, and the instances of other services."""
