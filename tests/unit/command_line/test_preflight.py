"""Wrong settings are refused in one line, before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from mycelium.runner.preflight import check_broker, check_databases, check_folder, consul_answers
from mycelium.servers import ServerError, free_port


@pytest.mark.parametrize("uri", ["nonsense", "pyamqp://guest:guest@127.0.0.1:1//", "http://127.0.0.1:1"])
def test_an_address_without_a_broker_is_named(uri):
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
def test_databases_that_can_not_be_used_are_named(template, reason):
    with pytest.raises(ServerError, match=f"DATABASE_URL.*({reason})") as refused:
        check_databases(template)
    assert "\n" not in str(refused.value)


def test_databases_that_can_be_used_pass(tmp_path):
    check_databases(f"sqlite:///{tmp_path}/{{service}}.db")


def test_a_folder_with_a_space_is_refused():
    check_folder(Path("/srv/shop/.mycelium"))
    with pytest.raises(ServerError, match="space"):
        check_folder(Path("/srv/my shop/.mycelium"))


def test_a_consul_that_is_away_is_noticed():
    assert not consul_answers(f"127.0.0.1:{free_port()}")
    assert not consul_answers("http://nonsense url")
