"""Commands that prepare the databases run in processes of their own and report errors in one line."""

from __future__ import annotations

import pytest

from mycelium.runner.backing_services import _run_command
from mycelium.servers import ServerError, free_port


def test_failed_migration_is_reported_in_one_line_without_the_password():
    address = f"postgresql://somebody:hush@127.0.0.1:{free_port()}/{{service}}"

    with pytest.raises(ServerError, match=r"^migrate: .*Connection refused") as refused:
        _run_command("migrate", {"DATABASE_URL": address})

    assert "hush" not in str(refused.value)
    assert "\n" not in str(refused.value)
