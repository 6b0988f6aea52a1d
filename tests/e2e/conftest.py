"""A whole mesh, started by `mycelium run`, with a mail server in the test process."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiosmtpd.controller import Controller

from mycelium.servers import free_port
from mycelium.state import ROOT
from tests.waiting import eventually

START_SECONDS = 120
STOP_SECONDS = 45
CACHE = os.environ.get("MYCELIUM_CACHE", str(ROOT / ".mycelium" / "cache"))


class Mailbox:
    """The mails that the mail server has received."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.messages.append(message_from_bytes(envelope.content))
        return "250 OK"

    def about(self, order_id: str) -> list[Message]:
        return [message for message in self.messages if order_id in message["Subject"]]


class Command:
    """A process of `mycelium run` or `mycelium demo`, with a state folder of its own."""

    def __init__(self, home: Path, *arguments: str, log: str = "output", **environment: str) -> None:
        self.home = home
        self.log = home.parent / f"{log}.txt"
        inherited = {
            k: v for k, v in os.environ.items() if k not in ("AMQP_URI", "CONSUL_HTTP_ADDR", "DATABASE_URL")
        }
        self.environment = {**inherited, "MYCELIUM_HOME": str(home), "MYCELIUM_CACHE": CACHE, **environment}
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mycelium", *arguments],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_until_running(self) -> None:
        def is_running() -> bool:
            assert self.process.poll() is None, self.output
            return "Ctrl-C" in self.output

        eventually(is_running, START_SECONDS, "the mesh")

    def settings(self) -> dict[str, str]:
        """Read `.mycelium/env` as a shell does."""
        pairs = (shlex.split(line)[0].partition("=") for line in (self.home / "env").read_text().splitlines())
        return {name: value for name, _, value in pairs}

    def processes(self) -> list[dict[str, Any]]:
        listed = self.mycelium("ps", "--json")
        assert listed.returncode == 0, listed.stderr
        rows: list[dict[str, Any]] = json.loads(listed.stdout)
        return rows

    def mycelium(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run([sys.executable, "-m", "mycelium", *arguments])

    def run(self, command: list[str], **more: Any) -> subprocess.CompletedProcess[str]:
        environment = {**self.environment, **(self.settings() if (self.home / "env").exists() else {})}
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, **more
        )

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(STOP_SECONDS)


def alive(pids: list[int]) -> list[int]:
    """Return the pids that run. A zombie does not run."""
    return [pid for pid in pids if _state(pid) not in ("", "Z")]


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1]
    except OSError:
        return ""


class Mesh:
    """A running mesh, and its clients."""

    def __init__(self, command: Command, mailbox: Mailbox) -> None:
        self.command = command
        self.mailbox = mailbox
        self.settings = command.settings()
        self.http = httpx.Client(base_url=self.settings["GATEWAY_URL"], timeout=10)
        self._tokens: dict[str, str] = {}

    def as_user(self, name: str) -> Mapping[str, str]:
        """Return headers of a logged-in seed user: alice, bob or admin."""
        if name not in self._tokens:
            form = {"username": f"{name}@example.com", "password": self.settings[f"{name.upper()}_PASSWORD"]}
            answer = self.http.post("/auth/token", data=form)
            assert answer.status_code == 200, answer.text
            self._tokens[name] = answer.json()["access_token"]
        return {"Authorization": f"Bearer {self._tokens[name]}"}

    def order(
        self, product_id: str = "P002", quantity: int = 1, user: str = "alice", **headers: str
    ) -> httpx.Response:
        body = {"product_id": product_id, "quantity": quantity}
        return self.http.post("/orders", json=body, headers={**self.as_user(user), **headers})

    def new_product(self, stock: int, **fields: Any) -> str:
        body = {"name": "Test", "price_minor": 500, "stock": stock, **fields}
        answer = self.http.post("/products", json=body, headers=self.as_user("admin"))
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def stock(self, product_id: str) -> int:
        return int(self.http.get(f"/products/{product_id}").json()["stock"])

    def supervisor(self) -> Any:
        from mycelium.runner.supervisor import connect
        from mycelium.state import State

        return connect(State(self.command.home)).supervisor

    def stop(self, service: str) -> None:
        self.supervisor().stopProcess(f"services:{service}")

    def start(self, service: str) -> None:
        self.supervisor().startProcess(f"services:{service}", False)
        self.wait_until_ready()

    def pid(self, name: str) -> int:
        return next(int(row["pid"] or 0) for row in self.command.processes() if row["name"] == name)

    def wait_until_ready(self) -> None:
        """Wait until every instance passes its check in Consul."""
        services = ("products", "users", "orders", "notifications", "gateway")
        eventually(lambda: all(self.instances(service) for service in services), 30, "all services in Consul")

    def instances(self, service: str) -> list[dict[str, Any]]:
        url = f"{self.settings['CONSUL_HTTP_ADDR']}/v1/health/service/{service}?passing"
        instances: list[dict[str, Any]] = httpx.get(url, timeout=5).json()
        return instances


@pytest.fixture(scope="session")
def mailbox() -> Iterator[Mailbox]:
    box = Mailbox()
    server = Controller(box, hostname="127.0.0.1", port=free_port())
    server.start()
    box.url = f"smtp://127.0.0.1:{server.port}"  # type: ignore[attr-defined]
    yield box
    server.stop()


@pytest.fixture(scope="session")
def mesh(tmp_path_factory: pytest.TempPathFactory, mailbox: Mailbox) -> Iterator[Mesh]:
    home = tmp_path_factory.mktemp("mesh") / "state"
    command = Command(home, "run", "--port", str(free_port()), SMTP_URL=mailbox.url)  # type: ignore[attr-defined]
    try:
        command.wait_until_running()
        running = Mesh(command, mailbox)
        running.wait_until_ready()
        yield running
        pids = [row["pid"] for row in command.processes()]
    finally:
        code = command.stop()
    assert code == 0, command.output
    assert alive(pids) == []
