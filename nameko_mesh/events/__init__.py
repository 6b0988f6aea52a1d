"""Events: their schema, their exchanges and their handlers."""
