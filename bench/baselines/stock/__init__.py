"""Nameko as it comes: its RPC, its events, its HTTP entrypoints, SQLAlchemy's ORM on PostgreSQL."""
