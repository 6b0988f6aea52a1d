"""What a mesh is made of, and what is kept of it."""

from __future__ import annotations

import os
import shlex
import socket

import pytest

from mycelium.runner.process_plan import InvalidScale, Ports, parse_scale, plan_gateways, plan_services
from mycelium.runner.supervisor import processes, render, restarts
from mycelium.servers import Program, free_port
from mycelium.state import AlreadyRunning, Member, State


@pytest.fixture
def state(tmp_path):
    state = State(tmp_path / "home")
    state.make()
    return state


def test_every_service_has_one_instance_unless_told():
    one_each = {"products": 1, "users": 1, "orders": 1, "notifications": 1, "gateway": 1}
    assert parse_scale("") == one_each
    assert parse_scale("products=2,gateway=3") == one_each | {"products": 2, "gateway": 3}


@pytest.mark.parametrize(
    "text", ["gateways=2", "products", "products=0", "products=17", "products=two", "=1"]
)
def test_a_scale_that_makes_no_sense_is_refused(text):
    with pytest.raises(InvalidScale, match="SCALE"):
        parse_scale(text)


def test_instances_have_names_and_ports_of_their_own():
    planned = plan_services(parse_scale("products=3"), Ports(well_known=True))
    assert [one.member.name for one in planned] == [
        "products-1", "products-2", "products-3", "users", "orders", "notifications",
    ]  # fmt: skip
    addresses = [one.member.address for one in planned]
    assert len(set(addresses)) == len(addresses)


def test_the_gateway_knows_the_static_addresses_of_products():
    (planned,) = plan_gateways(1, 8000, Ports(well_known=False), ["127.0.0.1:1", "127.0.0.1:2"])
    assert planned.program.environment["PRODUCTS_GRPC"] == "127.0.0.1:1,127.0.0.1:2"
    assert (planned.member.name, planned.member.address) == ("gateway", "127.0.0.1:8000")


def test_several_gateways_share_a_port_and_each_has_its_own():
    planned = plan_gateways(3, 8000, Ports(well_known=False), [])
    settings = [one.program.environment for one in planned]
    assert {one["GATEWAY_SHARED_PORT"] for one in settings} == {"8000"}
    assert {one["GATEWAY_INSTANCES"] for one in settings} == {"3"}
    own = [one["GATEWAY_PORT"] for one in settings] + [one["GATEWAY_METRICS_PORT"] for one in settings]
    assert len(set(own)) == 6
    assert [one.member.name for one in planned] == ["gateway-1", "gateway-2", "gateway-3"]
    assert [one.ready_url for one in planned] == [f"http://127.0.0.1:{port}/ready" for port in own[:3]]


def test_a_port_in_use_is_not_taken():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert Ports(well_known=True).take(port) != port


def test_a_free_port_that_people_know_is_taken_once():
    port, ports = free_port(), Ports(well_known=True)
    assert ports.take(port) == port
    assert ports.take(port) != port


def test_a_port_that_was_asked_for_is_handed_out_to_nobody_else():
    port, ports = free_port(), Ports(well_known=True)
    ports.reserve(port)
    assert ports.take(port) != port


def test_a_mesh_beside_the_one_of_the_checkout_leaves_it_the_ports_that_people_know():
    port = free_port()
    assert Ports(well_known=False).take(port) != port


def test_secrets_are_made_once_and_are_nobody_elses(state):
    made = state.secrets()
    assert state.secrets() == made
    assert len(made["JWT_SECRET"]) >= 32
    assert len(set(made.values())) == len(made)
    assert (state.home / "secrets.json").stat().st_mode & 0o077 == 0


def test_the_settings_survive_a_shell(state):
    values = {"A": "plain", "B": "with space", "C": "it's $HOME", "D": "sqlite:///{service}.db"}
    state.write_env(values)
    lines = state.env_file.read_text().splitlines()
    assert {shlex.split(line)[0] for line in lines} == {f"{k}={v}" for k, v in values.items()}


def test_one_state_folder_has_one_mesh(state):
    with state.locked(), pytest.raises(AlreadyRunning, match=str(os.getpid())), State(state.home).locked():
        raise AssertionError("the lock was given twice")
    with state.locked():
        assert (state.home / "lock").exists()


def test_members_are_kept_for_ps(state):
    assert state.members() == []
    state.write_members([Member("orders", "orders", "127.0.0.1:1")])
    assert state.members() == [Member("orders", "orders", "127.0.0.1:1")]


def test_a_socket_path_is_never_too_long(tmp_path):
    deep = State(tmp_path / ("x" * 100) / "home")
    assert len(str(deep.socket)) <= 100
    assert deep.socket != State(tmp_path / ("y" * 100) / "home").socket


def test_without_a_supervisor_nothing_runs(state):
    assert processes(state) is None
    assert restarts(state) == {}


def test_restarts_are_counted_from_the_log(state):
    lines = [
        "spawned: 'orders' with pid 1",
        "exited: orders",
        "spawned: 'orders' with pid 2",
        "spawned: 'users' with",
    ]
    state.supervisor_log.write_text("\n".join(lines))
    assert restarts(state) == {"orders": 1, "users": 0}


def test_a_program_with_awkward_words_reaches_its_process_unchanged(state, tmp_path):
    import subprocess

    command = ("printf", "%s|%s", "a ; b % c", 'two\n"lines"')
    program = Program(name="odd", command=command, directory=tmp_path, environment={"X": "1,2 %(here)s"})
    configuration = render(state, {"one": [program]})
    assert f"command={state.programs / 'odd'}" in configuration
    done = subprocess.run([state.programs / "odd"], capture_output=True, text=True, timeout=10)
    assert done.stdout == 'a ; b % c|two\n"lines"'
