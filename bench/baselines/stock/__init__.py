"""Stock Nameko: its RPC, events and HTTP entrypoints, with SQLAlchemy's ORM on PostgreSQL."""
