"""A private Consul agent: a real one, fetched if the machine has none."""

import http.client
import json
import shutil
from urllib.parse import urlsplit

import pytest

from mycelium.servers import ServerError, consul, running
from tests.integration.servers.observed import is_loopback, listeners, processes_of

PATIENCE = 20.0


@pytest.fixture(scope="module")
def installation(cache):
    found = consul.find_or_fetch(cache, print, use_machine=False)
    assert found is not None
    return found


def ask(agent, method, path, body=None):
    connection = http.client.HTTPConnection(urlsplit(agent.http_addr).netloc, timeout=5)
    try:
        connection.request(method, path, json.dumps(body) if body else None)
        response = connection.getresponse()
        assert response.status == 200, response.reason
        return json.loads(response.read() or b"null")
    finally:
        connection.close()


def test_it_takes_a_registration_as_soon_as_it_is_ready(installation, tmp_path, logs):
    agent = installation.agent(tmp_path / "data")
    with running(*agent.programs, log_dir=logs) as processes:
        processes.wait_until(agent.is_ready, PATIENCE, "Consul")
        ask(
            agent,
            "PUT",
            "/v1/catalog/register",
            {"Node": "n", "Address": "127.0.0.1", "Service": {"Service": "s"}},
        )
        assert [found["ServiceName"] for found in ask(agent, "GET", "/v1/catalog/service/s?consistent")] == [
            "s"
        ]


def test_it_is_not_ready_before_it_runs_nor_after(installation, tmp_path, logs):
    agent = installation.agent(tmp_path / "data")
    assert not agent.is_ready()
    with running(*agent.programs, log_dir=logs) as processes:
        processes.wait_until(agent.is_ready, PATIENCE, "Consul")
    assert not agent.is_ready()


def test_it_comes_back_at_the_same_address_with_an_empty_catalogue(installation, tmp_path, logs):
    agent = installation.agent(tmp_path / "data")
    for _ in range(2):
        with running(*agent.programs, log_dir=logs) as processes:
            processes.wait_until(agent.is_ready, PATIENCE, "Consul")
            assert list(ask(agent, "GET", "/v1/catalog/services")) == ["consul"]
            ask(agent, "PUT", "/v1/agent/service/register", {"Name": "products", "Port": 1})


def test_it_listens_on_the_loopback_alone(installation, tmp_path, logs):
    agent = installation.agent(tmp_path / "data")
    with running(*agent.programs, log_dir=logs) as processes:
        processes.wait_until(agent.is_ready, PATIENCE, "Consul")
        found = listeners(processes_of(tmp_path))
    assert {port for _, port in found} == {agent.ports.http, agent.ports.server, agent.ports.serf}
    assert all(is_loopback(address) for address, _ in found)


def test_two_agents_do_not_know_of_each_other(installation, tmp_path, logs):
    one, other = (installation.agent(tmp_path / name) for name in ("one", "other"))
    with (
        running(*one.programs, log_dir=logs / "one") as first,
        running(*other.programs, log_dir=logs / "other"),
    ):
        first.wait_until(lambda: one.is_ready() and other.is_ready(), PATIENCE, "both")
        ask(one, "PUT", "/v1/agent/service/register", {"Name": "only-here", "Port": 1})
        assert "only-here" not in ask(other, "GET", "/v1/catalog/services")
        assert len(ask(other, "GET", "/v1/agent/members")) == 1


def test_the_one_of_the_machine_comes_first(tmp_path, monkeypatch, installation):
    installed = tmp_path / "bin" / "consul"
    installed.parent.mkdir()
    installed.symlink_to(installation.binary)
    monkeypatch.setenv("PATH", str(installed.parent), prepend=":")
    assert consul.find_or_fetch(tmp_path / "cache", print).binary == installed
    assert not (tmp_path / "cache").exists()


def test_without_any_there_is_one_sentence_and_no_error(tmp_path, monkeypatch):
    def nothing(*arguments, **options):
        raise ServerError("no network")

    monkeypatch.setattr(consul, "unpacked", nothing)
    said = []
    assert consul.find_or_fetch(tmp_path, said.append, use_machine=False) is None
    assert said == ["Consul is not on this machine and can't be fetched: no network"]


def test_a_broken_program_is_a_server_error_that_names_it(tmp_path):
    broken = tmp_path / "consul"
    shutil.copy("/etc/hostname", broken)
    with pytest.raises(ServerError, match="consul does not run"):
        consul.Installation(broken, {}).agent(tmp_path / "data")
