"""The container of a service, its health and its presence in Consul."""
