"""A private Consul agent: a real one, always fetched."""

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
    installed = consul.find_or_fetch(cache, print, use_machine=False)
    assert installed is not None
    return installed


def ask(agent, method, path, body=None):
    connection = http.client.HTTPConnection(urlsplit(agent.http_addr).netloc, timeout=5)
    try:
        connection.request(method, path, json.dumps(body) if body else None)
        response = connection.getresponse()
        assert response.status == 200, response.reason
        return json.loads(response.read() or b"null")
    finally:
        connection.close()


def test_ready_agent_accepts_a_registration(installation, tmp_path, logs):
    agent = installation.agent(tmp_path / "data")
    with running(*agent.programs, log_dir=logs) as processes:
        processes.wait_until(agent.is_ready, PATIENCE, "Consul")
        ask(
            agent,
            "PUT",
            "/v1/catalog/register",
            {"Node": "n", "Address": "127.0.0.1", "Service": {"Service": "s"}},
        )
        services = ask(agent, "GET", "/v1/catalog/service/s?consistent")
        assert [service["ServiceName"] for service in services] == ["s"]


def test_agent_is_ready_only_while_it_runs(installation, tmp_path, logs):
    agent = installation.agent(tmp_path / "data")
    assert not agent.is_ready()
    with running(*agent.programs, log_dir=logs) as processes:
        processes.wait_until(agent.is_ready, PATIENCE, "Consul")
    assert not agent.is_ready()


def test_restarted_agent_keeps_its_address_and_has_an_empty_catalogue(installation, tmp_path, logs):
    agent = installation.agent(tmp_path / "data")
    for _ in range(2):
        with running(*agent.programs, log_dir=logs) as processes:
            processes.wait_until(agent.is_ready, PATIENCE, "Consul")
            assert list(ask(agent, "GET", "/v1/catalog/services")) == ["consul"]
            ask(agent, "PUT", "/v1/agent/service/register", {"Name": "products", "Port": 1})


def test_agent_listens_on_the_loopback_only(installation, tmp_path, logs):
    agent = installation.agent(tmp_path / "data")
    with running(*agent.programs, log_dir=logs) as processes:
        processes.wait_until(agent.is_ready, PATIENCE, "Consul")
        sockets = listeners(processes_of(tmp_path))
    assert {port for _, port in sockets} == {agent.ports.http, agent.ports.server, agent.ports.serf}
    assert all(is_loopback(address) for address, _ in sockets)


def test_two_agents_share_nothing(installation, tmp_path, logs):
    first, second = (installation.agent(tmp_path / name) for name in ("first", "second"))
    with (
        running(*first.programs, log_dir=logs / "first") as processes,
        running(*second.programs, log_dir=logs / "second"),
    ):
        processes.wait_until(lambda: first.is_ready() and second.is_ready(), PATIENCE, "both")
        ask(first, "PUT", "/v1/agent/service/register", {"Name": "only-here", "Port": 1})
        assert "only-here" not in ask(second, "GET", "/v1/catalog/services")
        assert len(ask(second, "GET", "/v1/agent/members")) == 1


def test_installed_consul_is_preferred(tmp_path, monkeypatch, installation):
    installed = tmp_path / "bin" / "consul"
    installed.parent.mkdir()
    installed.symlink_to(installation.binary)
    monkeypatch.setenv("PATH", str(installed.parent), prepend=":")
    assert consul.find_or_fetch(tmp_path / "cache", print).binary == installed
    assert not (tmp_path / "cache").exists()


def test_missing_consul_is_reported_in_one_sentence(tmp_path, monkeypatch):
    def no_network(*arguments, **options):
        raise ServerError("no network")

    monkeypatch.setattr(consul, "unpacked", no_network)
    messages = []
    assert consul.find_or_fetch(tmp_path, messages.append, use_machine=False) is None
    assert messages == ["Consul is not installed and cannot be fetched: no network"]


def test_broken_program_raises_server_error_with_its_name(tmp_path):
    broken = tmp_path / "consul"
    shutil.copy("/etc/hostname", broken)
    with pytest.raises(ServerError, match="consul does not run"):
        consul.Installation(broken, {}).agent(tmp_path / "data")
