"""Holds for every test of both halves."""

from tests.time_limit import (
    pytest_collection_modifyitems,
    pytest_timeout_cancel_timer,
    pytest_timeout_set_timer,
)

__all__ = ["pytest_collection_modifyitems", "pytest_timeout_cancel_timer", "pytest_timeout_set_timer"]
