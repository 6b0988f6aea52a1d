"""Notifications publishes nothing: it is where news ends."""
