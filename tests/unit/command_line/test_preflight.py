"""Preflight checks refuse wrong settings in one line, before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from mycelium.runner.preflight import check_broker, check_databases, check_folder, consul_answers
from mycelium.servers import ServerError, free_port


@pytest.mark.parametrize("uri", ["nonsense", "pyamqp://guest:guest@127.0.0.1:1//", "http://127.0.0.1:1"])
def test_address_without_a_broker_is_refused_in_one_line(uri):
    with pytest.raises(ServerError, match="AMQP_URI") as refused:
        check_broker(uri)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("sqlite:////tmp/shop.db", "expected {service}"),
        ("nonsense {service}", "Could not parse"),
        ("mysql://127.0.0.1:1/{service}", "MySQLdb|expected sqlite"),
        (f"postgresql://x@127.0.0.1:{free_port()}/{{service}}", "refused"),
    ],
)
def test_unusable_database_url_is_refused_with_its_reason(template, reason):
    with pytest.raises(ServerError, match=f"DATABASE_URL.*({reason})") as refused:
        check_databases(template)
    assert "\n" not in str(refused.value)


def test_usable_database_url_passes(tmp_path):
    check_databases(f"sqlite:///{tmp_path}/{{service}}.db")


def test_state_folder_with_a_space_is_refused():
    check_folder(Path("/srv/shop/.mycelium"))
    with pytest.raises(ServerError, match="space"):
        check_folder(Path("/srv/my shop/.mycelium"))


def test_missing_consul_agent_does_not_answer():
    assert not consul_answers(f"127.0.0.1:{free_port()}")
    assert not consul_answers("http://nonsense url")
