"""What a mesh is made of, and what is kept of it."""

from __future__ import annotations

import os
import shlex
import socket

import pytest

from mycelium.plan import BadScale, Ports, parse_scale, plan_gateway, plan_services
from mycelium.servers import Program, free_port
from mycelium.state import AlreadyRunning, Member, State
from mycelium.supervisor import processes, render, restarts


@pytest.fixture
def state(tmp_path):
    state = State(tmp_path / "home")
    state.make()
    return state


def test_every_service_has_one_instance_unless_told():
    one_each = {"products": 1, "users": 1, "orders": 1, "notifications": 1, "gateway": 1}
    assert parse_scale("", {}) == one_each
    assert parse_scale("products=2,gateway=3", {}) == one_each | {"products": 2, "gateway": 3}


def test_the_gateways_own_setting_counts_unless_told():
    assert parse_scale("products=2", {"GATEWAY_WORKERS": "4"})["gateway"] == 4
    assert parse_scale("gateway=2", {"GATEWAY_WORKERS": "4"})["gateway"] == 2
    with pytest.raises(BadScale, match="gateway=many"):
        parse_scale("", {"GATEWAY_WORKERS": "many"})


@pytest.mark.parametrize(
    "text", ["gateways=2", "products", "products=0", "products=17", "products=two", "=1"]
)
def test_a_scale_that_makes_no_sense_is_refused(text):
    with pytest.raises(BadScale, match="SCALE"):
        parse_scale(text)


def test_instances_have_names_and_ports_of_their_own():
    planned = plan_services(parse_scale("products=3"), Ports(well_known=True))
    assert [one.member.name for one in planned] == [
        "products-1", "products-2", "products-3", "users", "orders", "notifications",
    ]  # fmt: skip
    addresses = [one.member.address for one in planned]
    assert len(set(addresses)) == len(addresses)


def test_the_gateway_knows_the_static_addresses_of_products():
    planned = plan_gateway(8000, range(8001, 8003), ["127.0.0.1:1", "127.0.0.1:2"])
    environment = planned.program.environment
    assert environment["PRODUCTS_GRPC"] == "127.0.0.1:1,127.0.0.1:2"
    assert (environment["GATEWAY_WORKERS"], environment["GATEWAY_METRICS_PORT"]) == ("2", "8001")


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


def test_a_row_of_ports_is_free_as_a_whole_and_taken_once():
    ports = Ports(well_known=True)
    row = ports.take_row(0, 3)
    assert list(row) == [row[0], row[0] + 1, row[0] + 2]
    assert not set(ports.take_row(row[2], 2)) & set(row)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert taken.getsockname()[1] not in ports.take_row(taken.getsockname()[1] - 1, 2)


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
