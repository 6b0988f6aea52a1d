"""The outbox: from a committed transaction to the broker, at least once and in order."""
