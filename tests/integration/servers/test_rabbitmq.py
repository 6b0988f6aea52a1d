"""A private RabbitMQ node: a real one, from packages that are fetched even where it is installed."""

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

from mycelium.servers import ServerError, rabbitmq, running, wait_until
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


def test_a_message_survives_a_restart_and_so_does_the_address(installation, tmp_path, logs):
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
    """Whether a queue is in a file of Mnesia, which writes some moments after it has answered."""
    files = [*folder.rglob("LATEST.LOG"), *folder.rglob("rabbit_durable_queue.DC?")]
    return any(name.encode() in file.read_bytes() for file in files)


def test_a_confirmed_message_survives_a_kill_that_leaves_no_process(node, tmp_path, logs):
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


def test_two_nodes_with_management_share_nothing_and_listen_on_the_loopback_alone(
    installation, tmp_path, logs
):
    one, other = (installation.node(tmp_path / name) for name in ("one", "other"))
    with (
        running(*one.programs, log_dir=logs / "one") as first,
        running(*other.programs, log_dir=logs / "other") as second,
    ):
        first.wait_until(one.is_ready, PATIENCE, "one")
        second.wait_until(other.is_ready, PATIENCE, "the other")
        assert overview(one)["node"] == overview(other)["node"]  # the same name, and yet apart
        publish(one, "for one")
        publish(other, "for the other")
        assert [take(one), take(other)] == ["for one", "for the other"]
        told = {port for node in (one, other) for port in vars(node.ports).values()}

        def found():
            return listeners(processes_of(tmp_path))

        # A look-up of a name has a socket of its own, for a moment, that looks like a listener.
        wait_until(lambda: {port for _, port in found()} == told, PATIENCE, "eight listeners and no more")
        assert all(is_loopback(address) for address, _ in found())


def test_secrets_are_for_their_owner_alone(node, tmp_path):
    data = tmp_path / "data"
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    for name in ("password", "rabbitmq.conf", ".erlang.cookie"):
        assert stat.S_IMODE((data / name).stat().st_mode) == 0o600


def test_without_management_there_is_no_address_for_it(node):
    assert node.management_url is None


def test_a_listener_that_never_answers_is_not_ready_and_that_is_known_in_a_second(installation, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ports = rabbitmq.Ports(silent.getsockname()[1], 1, 1, 1)
        node = installation.node(tmp_path / "data", ports)
        began = time.monotonic()
        assert not node.is_ready()
        assert time.monotonic() - began < 1.0


def test_a_wrong_password_is_not_ready(installation, node, tmp_path, logs):
    with running(*node.programs, log_dir=logs) as processes:
        processes.wait_until(node.is_ready, PATIENCE, "RabbitMQ")
        stranger = installation.node(tmp_path / "stranger", node.ports, management=False)
        assert not stranger.is_ready()


@pytest.mark.skipif(os.geteuid() != 0, reason="to become another user takes root")
def test_it_runs_as_a_user_without_any_rights(installation, tmp_path):
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
    # A mesh that has run from here has made its folder private, and nobody could not read the cache in it.
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


def test_with_no_way_to_get_one_the_error_says_what_to_do(tmp_path, monkeypatch):
    def no_network(*arguments, **options):
        raise ServerError("no network")

    monkeypatch.setattr(rabbitmq, "unpacked", no_network)
    monkeypatch.setattr(rabbitmq.docker, "answers", lambda: False)
    with pytest.raises(ServerError, match=r"no network.*install rabbitmq-server.*Docker.*AMQP_URI"):
        rabbitmq.find_or_fetch(tmp_path, print, use_machine=False)


def test_a_container_is_published_on_the_loopback_and_leaves_with_its_client(tmp_path, logs, monkeypatch):
    """There is no engine to be had everywhere: a stand-in for its client writes down what it is told."""
    stand_in = tmp_path / "bin" / "docker"
    stand_in.parent.mkdir()
    stand_in.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/told\n[ "$1" != run ] || exec sleep 1000\n')
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", str(stand_in.parent), prepend=":")

    def no_network(*arguments, **options):
        raise ServerError("no network")

    monkeypatch.setattr(rabbitmq, "unpacked", no_network)
    node = rabbitmq.find_or_fetch(tmp_path / "cache", print, use_machine=False).node(tmp_path / "data")
    told = tmp_path / "told"
    with running(*node.programs, log_dir=logs):
        wait_until(lambda: "run " in told.read_text(), PATIENCE, "the container")
    commands = told.read_text().splitlines()[-2:]
    assert commands[0].startswith("rm --force mycelium-rabbitmq-")
    assert f"--publish 127.0.0.1:{node.ports.amqp}:5672" in commands[1]
    assert f"--publish 127.0.0.1:{node.ports.management}:15672" in commands[1]
    assert node.programs[0].stop_signal is signal.SIGTERM
