"""The process plan, the supervisor's configuration and the state folder."""

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


def test_scale_defaults_to_one_instance_per_service():
    one_each = {"products": 1, "users": 1, "orders": 1, "notifications": 1, "gateway": 1}
    assert parse_scale("") == one_each
    assert parse_scale("products=2,gateway=3") == one_each | {"products": 2, "gateway": 3}


@pytest.mark.parametrize(
    "text", ["gateways=2", "products", "products=0", "products=17", "products=two", "=1"]
)
def test_invalid_scale_is_refused(text):
    with pytest.raises(InvalidScale, match="SCALE"):
        parse_scale(text)


def test_scaled_instances_have_distinct_names_and_ports():
    plan = plan_services(parse_scale("products=3"), Ports(well_known=True))
    assert [process.member.name for process in plan] == [
        "products-1", "products-2", "products-3", "users", "orders", "notifications",
    ]  # fmt: skip
    addresses = [process.member.address for process in plan]
    assert len(set(addresses)) == len(addresses)


def test_gateway_gets_the_static_addresses_of_products():
    (process,) = plan_gateways(1, 8000, Ports(well_known=False), ["127.0.0.1:1", "127.0.0.1:2"])
    assert process.program.environment["PRODUCTS_GRPC"] == "127.0.0.1:1,127.0.0.1:2"
    assert (process.member.name, process.member.address) == ("gateway", "127.0.0.1:8000")


def test_several_gateways_share_a_port_and_each_has_its_own_too():
    plan = plan_gateways(3, 8000, Ports(well_known=False), [])
    settings = [process.program.environment for process in plan]
    assert {values["GATEWAY_SHARED_PORT"] for values in settings} == {"8000"}
    assert {values["GATEWAY_INSTANCES"] for values in settings} == {"3"}
    own = [values["GATEWAY_PORT"] for values in settings]
    own += [values["GATEWAY_METRICS_PORT"] for values in settings]
    assert len(set(own)) == 6
    assert [process.member.name for process in plan] == ["gateway-1", "gateway-2", "gateway-3"]
    assert [process.ready_url for process in plan] == [f"http://127.0.0.1:{port}/ready" for port in own[:3]]


def test_port_in_use_is_not_taken():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert Ports(well_known=True).take(port) != port


def test_free_well_known_port_is_taken_once():
    port, ports = free_port(), Ports(well_known=True)
    assert ports.take(port) == port
    assert ports.take(port) != port


def test_reserved_port_is_never_handed_out():
    port, ports = free_port(), Ports(well_known=True)
    ports.reserve(port)
    assert ports.take(port) != port


def test_second_mesh_leaves_well_known_ports_to_the_checkouts_mesh():
    port = free_port()
    assert Ports(well_known=False).take(port) != port


def test_secrets_are_generated_once_and_private_to_their_owner(state):
    secrets = state.secrets()
    assert state.secrets() == secrets
    assert len(secrets["JWT_SECRET"]) >= 32
    assert len(set(secrets.values())) == len(secrets)
    assert (state.home / "secrets.json").stat().st_mode & 0o077 == 0


def test_env_file_keeps_values_when_a_shell_reads_it(state):
    values = {"A": "plain", "B": "with space", "C": "it's $HOME", "D": "sqlite:///{service}.db"}
    state.write_env(values)
    lines = state.env_file.read_text().splitlines()
    assert {shlex.split(line)[0] for line in lines} == {f"{k}={v}" for k, v in values.items()}


def test_locked_state_folder_refuses_a_second_mesh(state):
    with state.locked(), pytest.raises(AlreadyRunning, match=str(os.getpid())), State(state.home).locked():
        raise AssertionError("the lock was given twice")
    with state.locked():
        assert (state.home / "lock").exists()


def test_written_members_are_read_back(state):
    assert state.members() == []
    state.write_members([Member("orders", "orders", "127.0.0.1:1")])
    assert state.members() == [Member("orders", "orders", "127.0.0.1:1")]


def test_socket_path_of_a_deep_folder_is_short_and_unique(tmp_path):
    deep = State(tmp_path / ("x" * 100) / "home")
    assert len(str(deep.socket)) <= 100
    assert deep.socket != State(tmp_path / ("y" * 100) / "home").socket


def test_state_without_a_supervisor_has_no_processes(state):
    assert processes(state) is None
    assert restarts(state) == {}


def test_restarts_are_counted_from_the_supervisors_log(state):
    lines = [
        "spawned: 'orders' with pid 1",
        "exited: orders",
        "spawned: 'orders' with pid 2",
        "spawned: 'users' with",
    ]
    state.supervisor_log.write_text("\n".join(lines))
    assert restarts(state) == {"orders": 1, "users": 0}


def test_script_passes_awkward_arguments_unchanged(state, tmp_path):
    import subprocess

    command = ("printf", "%s|%s", "a ; b % c", 'two\n"lines"')
    program = Program(name="odd", command=command, directory=tmp_path, environment={"X": "1,2 %(here)s"})
    configuration = render(state, {"one": [program]})
    assert f"command={state.programs / 'odd'}" in configuration
    done = subprocess.run([state.programs / "odd"], capture_output=True, text=True, timeout=10)
    assert done.stdout == 'a ; b % c|two\n"lines"'
