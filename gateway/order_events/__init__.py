"""The events of orders, streamed to HTTP clients as Server-Sent Events."""
