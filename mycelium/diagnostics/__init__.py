"""Reads what is running and what is stuck."""
