"""A private RabbitMQ node: a real one, always from fetched packages."""

import contextlib
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import textwrap
import time
import urllib.request
from urllib.parse import urlsplit

import pytest
from kombu import Connection, Queue

from mycelium.servers import NotReady, ServerError, rabbitmq, running, wait_until
from tests.integration.servers.observed import is_loopback, listeners, processes_of

PATIENCE = 60.0
STRAGGLERS = 5.0


@pytest.fixture(scope="module")
def installation(cache):
    return rabbitmq.find_or_fetch(cache, print, use_machine=False)


@pytest.fixture
def node(installation, tmp_path):
    return installation.node(tmp_path / "data", management=False)


def publish(node, text):
    confirmed = {"confirm_publish": True}
    with Connection(node.amqp_uri, connect_timeout=5, transport_options=confirmed) as connection:
        Queue("kept", durable=True, channel=connection).declare()
        connection.Producer().publish(text, routing_key="kept", delivery_mode=2)


def take(node):
    with Connection(node.amqp_uri, connect_timeout=5) as connection:
        message = Queue("kept", durable=True, channel=connection).get(no_ack=True)
        return message and message.payload


def overview(node):
    url = urlsplit(node.management_url)
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    address = f"http://{url.hostname}:{url.port}/api/overview"
    passwords.add_password(None, address, url.username, url.password)
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPBasicAuthHandler(passwords)
    )
    with opener.open(address, timeout=5) as answer:
        return json.load(answer)


def test_message_and_address_survive_a_restart(installation, tmp_path, logs):
    node = installation.node(tmp_path / "data", management=False)
    with running(*node.programs, log_dir=logs) as processes:
        processes.wait_until(node.is_ready, PATIENCE, "RabbitMQ")
        publish(node, "remember me")
    assert not node.is_ready()

    again = installation.node(tmp_path / "data", node.ports, management=False)
    assert again.amqp_uri == node.amqp_uri
    with running(*again.programs, log_dir=logs) as processes:
        processes.wait_until(again.is_ready, PATIENCE, "RabbitMQ")
        assert take(again) == "remember me"


def knows_queue(folder, name):
    """Return whether Mnesia has written the queue to a file, which it does some time after it answers."""
    files = [*folder.rglob("LATEST.LOG"), *folder.rglob("rabbit_durable_queue.DC?")]
    return any(name.encode() in file.read_bytes() for file in files)


def test_confirmed_message_survives_a_killed_node(node, tmp_path, logs):
    with running(*node.programs, log_dir=logs) as processes:
        processes.wait_until(node.is_ready, PATIENCE, "RabbitMQ")
        publish(node, "remember me")
        wait_until(lambda: knows_queue(tmp_path, "kept"), PATIENCE, "the queue in the node's files")
        processes["rabbitmq"].kill()
        only_epmd = {processes["rabbitmq-epmd"].pid, processes["rabbitmq"].pid}
        wait_until(lambda: processes_of(tmp_path) <= only_epmd, STRAGGLERS, "the end of the node's helpers")
        processes["rabbitmq"].wait()
        processes.start(node.programs[-1])
        processes.wait_until(node.is_ready, PATIENCE, "RabbitMQ")
        assert take(node) == "remember me"


def test_two_nodes_with_management_listen_on_the_loopback_and_share_nothing(installation, tmp_path, logs):
    first, second = (installation.node(tmp_path / name) for name in ("first", "second"))
    with (
        running(*first.programs, log_dir=logs / "first") as first_processes,
        running(*second.programs, log_dir=logs / "second") as second_processes,
    ):
        first_processes.wait_until(first.is_ready, PATIENCE, "first")
        second_processes.wait_until(second.is_ready, PATIENCE, "second")
        assert overview(first)["node"] == overview(second)["node"]  # the same name does not connect them
        publish(first, "for the first")
        publish(second, "for the second")
        assert [take(first), take(second)] == ["for the first", "for the second"]
        expected = {port for node in (first, second) for port in vars(node.ports).values()}

        def ports():
            return {port for _, port in listeners(processes_of(tmp_path))}

        # A name lookup briefly opens a socket that looks like a listener.
        with contextlib.suppress(NotReady):
            wait_until(lambda: ports() == expected, PATIENCE, "exactly eight listeners")
        assert ports() == expected
        assert all(is_loopback(address) for address, _ in listeners(processes_of(tmp_path)))


def test_secrets_are_readable_by_their_owner_only(node, tmp_path):
    data = tmp_path / "data"
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    for name in ("password", "rabbitmq.conf", ".erlang.cookie"):
        assert stat.S_IMODE((data / name).stat().st_mode) == 0o600


def test_node_without_management_has_no_management_url(node):
    assert node.management_url is None


def test_silent_listener_is_not_ready_within_a_second(installation, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ports = rabbitmq.Ports(silent.getsockname()[1], 1, 1, 1)
        node = installation.node(tmp_path / "data", ports)
        began = time.monotonic()
        assert not node.is_ready()
        assert time.monotonic() - began < 1.0


def test_node_is_not_ready_for_a_wrong_password(installation, node, tmp_path, logs):
    with running(*node.programs, log_dir=logs) as processes:
        processes.wait_until(node.is_ready, PATIENCE, "RabbitMQ")
        stranger = installation.node(tmp_path / "stranger", node.ports, management=False)
        assert not stranger.is_ready()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the user")
def test_node_runs_as_an_unprivileged_user(installation, tmp_path):
    script = f"""
        import os, sys
        from pathlib import Path
        from mycelium.servers import rabbitmq, running
        installation = rabbitmq.find_or_fetch(Path(sys.argv[1]), print, use_machine=False)
        data = Path(sys.argv[2])
        node = installation.node(data, management=False)
        with running(*node.programs, log_dir=data / "logs") as processes:
            processes.wait_until(node.is_ready, {PATIENCE}, "RabbitMQ")
            print("served", os.getuid())
    """
    nobody = 65534
    home = tmp_path / "nobody"
    home.mkdir()
    # The checkout's state folder may be private, so the user nobody gets a copy of the cache.
    cache = tmp_path / "cache"
    shutil.copytree(installation.root, cache / "roots" / "rabbitmq", symlinks=True)
    os.chown(home, nobody, nobody)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(folder.stat().st_mode | stat.S_IXOTH)
    done = subprocess.run(
        ["setpriv", "--reuid", str(nobody), "--regid", str(nobody), "--clear-groups", "--",
         sys.executable, "-c", textwrap.dedent(script), str(cache), str(home)],
        capture_output=True, text=True, timeout=2 * PATIENCE,
    )  # fmt: skip
    assert f"served {nobody}" in done.stdout, done.stderr


def test_unavailable_rabbitmq_raises_an_error_that_says_what_to_do(tmp_path, monkeypatch):
    def no_network(*arguments, **options):
        raise ServerError("no network")

    monkeypatch.setattr(rabbitmq, "unpacked", no_network)
    monkeypatch.setattr(rabbitmq.docker, "answers", lambda: False)
    with pytest.raises(ServerError, match=r"no network.*install rabbitmq-server.*Docker.*AMQP_URI"):
        rabbitmq.find_or_fetch(tmp_path, print, use_machine=False)


def test_docker_container_publishes_on_the_loopback_and_ends_with_its_client(tmp_path, logs, monkeypatch):
    """Uses a stand-in for Docker's client that logs its arguments, because few machines have an engine."""
    stand_in = tmp_path / "bin" / "docker"
    stand_in.parent.mkdir()
    stand_in.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n[ "$1" != run ] || exec sleep 1000\n')
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", str(stand_in.parent), prepend=":")

    def no_network(*arguments, **options):
        raise ServerError("no network")

    monkeypatch.setattr(rabbitmq, "unpacked", no_network)
    node = rabbitmq.find_or_fetch(tmp_path / "cache", print, use_machine=False).node(tmp_path / "data")
    calls = tmp_path / "calls"
    with running(*node.programs, log_dir=logs):
        wait_until(lambda: "run " in calls.read_text(), PATIENCE, "the container")
    commands = calls.read_text().splitlines()[-2:]
    assert commands[0].startswith("rm --force mycelium-rabbitmq-")
    assert f"--publish 127.0.0.1:{node.ports.amqp}:5672" in commands[1]
    assert f"--publish 127.0.0.1:{node.ports.management}:15672" in commands[1]
    assert node.programs[0].stop_signal is signal.SIGTERM
