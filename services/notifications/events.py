"""Notifications publishes no events."""
