"""Transactions over SQLAlchemy that never block an eventlet process."""
