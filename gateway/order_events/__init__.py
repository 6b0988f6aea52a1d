"""The events of orders, streamed to browsers."""
