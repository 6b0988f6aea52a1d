"""A RabbitMQ node of our own: the machine's programs, else Debian's packages, else Docker's image."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mycelium.servers import amqp_login, docker
from mycelium.servers.debian import Say, environment_of, unpacked
from mycelium.servers.program import Program, ServerError
from mycelium.servers.rabbitmq_data import USER, Ports, prepare

__all__ = ["Installation", "Ports", "RabbitMQ", "find_or_fetch"]

NODE = "mycelium@localhost"
STOP_SECONDS = 20.0
EPMD_STOP_SECONDS = 2.0

# Both are started at the same time, and the node gives up at once when epmd does not answer.
# In one line, as the files of supervisors want it.
WHEN_EPMD_ANSWERS = (
    "tries=0; until epmd -names >/dev/null 2>&1 || [ $tries -ge 100 ]; "
    'do tries=$((tries + 1)); sleep 0.05; done; exec "$0"'
)

# Needed by Debian's own scripts and unit, not by the node.
NOT_NEEDED = ("adduser", "init-system-helpers", "libpopt0", "libwrap0", "logrotate", "*perl*", "socat")

ABSENT = (
    "RabbitMQ is not on this machine and can't be fetched ({why}): "
    "install rabbitmq-server, or start Docker, or set AMQP_URI to a broker you have"
)


@dataclass(frozen=True)
class RabbitMQ:
    """A node that can be started: its programs, in the order to start them, and where it answers."""

    programs: tuple[Program, ...]
    ports: Ports
    password: str
    management: bool

    @property
    def amqp_uri(self) -> str:
        return f"pyamqp://{USER}:{self.password}@127.0.0.1:{self.ports.amqp}//"

    @property
    def management_url(self) -> str | None:
        """With the credentials in it; None when the node runs without the plugin."""
        if not self.management:
            return None
        return f"http://{USER}:{self.password}@127.0.0.1:{self.ports.management}"

    def is_ready(self) -> bool:
        """Whether a client can log in to the virtual host; known within a second."""
        return amqp_login.accepts(self.ports.amqp, USER, self.password)


class Installation(Protocol):
    """RabbitMQ as it was found; it can run any number of nodes, each in a data folder of its own."""

    def node(self, data: Path, ports: Ports | None = None, *, management: bool = True) -> RabbitMQ:
        """Prepare the data folder and describe the node; with the same folder it is the same node.

        With `management` it takes five seconds more to stop, before RabbitMQ 3.13 (its pull request
        11070): a handler waits for the application controller, which waits for the handler.
        """
        ...


def find_or_fetch(cache: Path, say: Say, *, use_machine: bool = True) -> Installation:
    """The first RabbitMQ to be had; raises ServerError, which says what to do, when there is none.

    `use_machine=False` passes over what is installed.
    """
    if use_machine and (installed := _of_machine()):
        return installed
    try:
        root = unpacked(
            "rabbitmq", ["rabbitmq-server"], cache, say, family="erlang-*", drop=NOT_NEEDED, finish=_relocate
        )
    except ServerError as error:
        if docker.answers():
            say(f"Running RabbitMQ in Docker ({error})")
            return _Docker()
        raise ServerError(ABSENT.format(why=error)) from error
    return _Native(root)


def _of_machine() -> Installation | None:
    """Debian's script in /usr/sbin insists on being root or rabbitmq; the one behind it does not."""
    if shutil.which("erl") and Path("/usr/lib/rabbitmq/bin/rabbitmq-server").exists():
        return _Native(Path("/"))
    return None


def _relocate(root: Path) -> None:
    """Make `erl` look for Erlang beside itself instead of in /usr/lib/erlang."""
    erl = root / "usr/lib/erlang/bin/erl"
    here = '$(cd "$(dirname "$(readlink -f "$0")")/.." && pwd)'
    fixed = re.compile(r"^(\s*)ROOTDIR=.*$", re.MULTILINE)
    erl.write_text(fixed.sub(lambda found: f"{found[1]}ROOTDIR={here}", erl.read_text()))


@dataclass(frozen=True)
class _Native:
    root: Path

    def node(self, data: Path, ports: Ports | None = None, *, management: bool = True) -> RabbitMQ:
        data, ports = data.resolve(), ports or Ports.free()
        password = prepare(data, ports, management, listen="127.0.0.1")
        environment = self._environment(data, ports)
        epmd = Program(
            name="rabbitmq-epmd",
            command=("epmd", "-address", "127.0.0.1", "-port", str(ports.epmd)),
            directory=data,
            environment=environment,
            stop_seconds=EPMD_STOP_SECONDS,
        )
        server = self.root / "usr/lib/rabbitmq/bin/rabbitmq-server"
        node = Program(
            name="rabbitmq",
            command=("sh", "-c", WHEN_EPMD_ANSWERS, str(server)),
            directory=data,
            environment=environment,
            stop_seconds=STOP_SECONDS,
        )
        return RabbitMQ((epmd, node), ports, password, management)

    def _environment(self, data: Path, ports: Ports) -> Mapping[str, str]:
        found = {} if self.root == Path("/") else environment_of(self.root)
        return {
            **found,
            "HOME": str(data),  # the node's cookie is kept there
            "RABBITMQ_NODENAME": NODE,
            "RABBITMQ_DIST_PORT": str(ports.dist),
            "RABBITMQ_MNESIA_BASE": str(data / "mnesia"),
            "RABBITMQ_LOG_BASE": str(data / "log"),
            "RABBITMQ_PID_FILE": str(data / "rabbitmq.pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(data / "enabled_plugins"),
            "RABBITMQ_CONFIG_FILE": str(data / "rabbitmq"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(data / "none.config"),
            "RABBITMQ_CONF_ENV_FILE": str(data / "none.conf"),
            # The script becomes the node instead of waiting for it: a kill reaches the node itself.
            "RABBITMQ_ALLOW_INPUT": "true",
            "RABBITMQ_SERVER_START_ARGS": "-noinput +B i",
            "ERL_INETRC": str(data / "inetrc"),
            "ERL_EPMD_PORT": str(ports.epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            # Holds for every Erlang the node starts: none leaves a daemon behind or listens elsewhere.
            "ERL_AFLAGS": "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}",
        }


@dataclass(frozen=True)
class _Docker:
    def node(self, data: Path, ports: Ports | None = None, *, management: bool = True) -> RabbitMQ:
        data, ports = data.resolve(), ports or Ports.free()
        inside = Ports(amqp=5672, management=15672, dist=25672, epmd=4369)
        password = prepare(data, inside, management, listen="0.0.0.0")  # noqa: S104 - published on 127.0.0.1
        program = docker.program(
            "rabbitmq",
            "rabbitmq:3-management",
            data,
            mounted_at="/var/lib/rabbitmq",
            ports={ports.amqp: inside.amqp, ports.management: inside.management},
            environment={
                "RABBITMQ_NODENAME": NODE,
                "RABBITMQ_CONFIG_FILE": "/var/lib/rabbitmq/rabbitmq",
                "RABBITMQ_ENABLED_PLUGINS_FILE": "/var/lib/rabbitmq/enabled_plugins",
            },
            stop_seconds=STOP_SECONDS,
        )
        return RabbitMQ((program,), ports, password, management)
