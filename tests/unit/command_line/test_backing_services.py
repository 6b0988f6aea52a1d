"""The databases are prepared in processes that end, and say in one line what is wrong."""

from __future__ import annotations

import pytest

from mycelium.runner.backing_services import _run_command
from mycelium.servers import ServerError, free_port


def test_a_database_that_can_not_be_migrated_is_told_in_one_line():
    address = f"postgresql://somebody:hush@127.0.0.1:{free_port()}/{{service}}"

    with pytest.raises(ServerError, match=r"^migrate: .*Connection refused") as refused:
        _run_command("migrate", {"DATABASE_URL": address})

    assert "hush" not in str(refused.value)
    assert "\n" not in str(refused.value)
