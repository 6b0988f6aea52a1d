"""`mycelium run` and `demo`: repeated, scaled, refused, interrupted and killed."""

from __future__ import annotations

import os
import signal

from mycelium.servers import free_port
from tests.e2e.conftest import Command, alive
from tests.waiting import eventually


def test_scaled_demo_runs_twice_on_the_same_state(tmp_path):
    home = tmp_path / "state"
    for _ in range(2):
        demo = Command(home, "demo", "--port", str(free_port()), "--scale", "products=2,orders=2,gateway=2")
        assert demo.process.wait(150) == 0, demo.output
        assert '"status": "confirmed"' in demo.output
        assert "products-2" in demo.output
        assert "gateway-2" in demo.output
    assert list((home / "outbox").glob("*.eml"))
    assert not (home / "supervisor.sock").exists()
    assert not (home / "env").exists()  # its addresses would be stale


def test_second_run_on_the_same_state_is_refused(mesh):
    second = Command(mesh.command.home, "run", log="second")
    assert second.process.wait(30) == 1
    assert "running already" in second.output


def test_demo_refuses_an_invalid_scale(tmp_path):
    run = Command(tmp_path / "state", "demo", "--scale", "gateways=3")
    assert run.process.wait(30) == 1
    assert "SCALE" in run.output


def test_demo_refuses_a_port_in_use(mesh, tmp_path):
    taken = mesh.settings["GATEWAY_URL"].rpartition(":")[2]
    run = Command(tmp_path / "state", "demo", "--port", taken)
    assert run.process.wait(30) == 1
    assert f"port {taken} is in use" in run.output


def test_demo_refuses_database_url_together_with_db_option(tmp_path):
    url = f"sqlite:///{tmp_path}/{{service}}.db"
    run = Command(tmp_path / "state", "demo", "--db", "postgresql", DATABASE_URL=url)
    assert run.process.wait(30) == 1
    assert "DATABASE_URL" in run.output


def test_interrupted_run_leaves_no_process(tmp_path):
    run = Command(tmp_path / "state", "run", "--port", str(free_port()))
    run.wait_until_running()
    pids = [row["pid"] for row in run.processes()]
    assert run.stop(signal.SIGINT) == 0, run.output
    assert alive(pids) == []


def test_killed_run_leaves_no_process(tmp_path):
    run = Command(tmp_path / "state", "run", "--port", str(free_port()))
    run.wait_until_running()
    pids = [row["pid"] for row in run.processes()]
    os.kill(run.process.pid, signal.SIGKILL)
    run.process.wait(10)
    eventually(lambda: alive(pids) == [], 45, "the end of every process")
