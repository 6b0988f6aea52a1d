"""A private RabbitMQ node, from the installed programs, Debian's packages or Docker's image."""

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

# The supervisor starts epmd and the node together, and the node gives up at once if epmd does not answer.
# The script is a single line, because supervisord's configuration requires that.
WHEN_EPMD_ANSWERS = (
    "tries=0; until epmd -names >/dev/null 2>&1 || [ $tries -ge 100 ]; "
    'do tries=$((tries + 1)); sleep 0.05; done; exec "$0"'
)

# Used by Debian's maintenance scripts and systemd unit, but not by the node.
NOT_NEEDED = ("adduser", "init-system-helpers", "libpopt0", "libwrap0", "logrotate", "*perl*", "socat")

ABSENT = (
    "RabbitMQ is not installed and cannot be fetched ({why}): "
    "install rabbitmq-server, start Docker, or set AMQP_URI to a broker"
)


@dataclass(frozen=True)
class RabbitMQ:
    """A node that can be started: its programs in starting order, its ports and its password."""

    programs: tuple[Program, ...]
    ports: Ports
    password: str
    management: bool

    @property
    def amqp_uri(self) -> str:
        return f"pyamqp://{USER}:{self.password}@127.0.0.1:{self.ports.amqp}//"

    @property
    def management_url(self) -> str | None:
        """The URL with credentials, or None when the node runs without the management plugin."""
        if not self.management:
            return None
        return f"http://{USER}:{self.password}@127.0.0.1:{self.ports.management}"

    def is_ready(self) -> bool:
        """Return whether a client can log in to the virtual host."""
        return amqp_login.accepts(self.ports.amqp, USER, self.password)


class Installation(Protocol):
    """An installed or fetched RabbitMQ. It can run any number of nodes, each on its own data folder."""

    def node(self, data: Path, ports: Ports | None = None, *, management: bool = True) -> RabbitMQ:
        """Prepare the data folder and return the node. The same folder gives the same node again.

        Before RabbitMQ 3.13 a node with `management` takes five seconds longer to stop. A handler and the
        application controller wait for each other (RabbitMQ's pull request 11070).
        """
        ...


def find_or_fetch(cache: Path, say: Say, *, use_machine: bool = True) -> Installation:
    """Return the first RabbitMQ available. Raises ServerError that says what to do when there is none.

    `use_machine=False` ignores an installed RabbitMQ.
    """
    if use_machine and (installed := _installed()):
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


def _installed() -> Installation | None:
    """Return the installed RabbitMQ.

    Uses the script in /usr/lib, because the script in /usr/sbin requires the user root or rabbitmq.
    """
    if shutil.which("erl") and Path("/usr/lib/rabbitmq/bin/rabbitmq-server").exists():
        return _Native(Path("/"))
    return None


def _relocate(root: Path) -> None:
    """Make the `erl` script find Erlang relative to itself instead of in /usr/lib/erlang."""
    erl = root / "usr/lib/erlang/bin/erl"
    here = '$(cd "$(dirname "$(readlink -f "$0")")/.." && pwd)'
    assignment = re.compile(r"^(\s*)ROOTDIR=.*$", re.MULTILINE)
    erl.write_text(assignment.sub(lambda match: f"{match[1]}ROOTDIR={here}", erl.read_text()))


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
        base = {} if self.root == Path("/") else environment_of(self.root)
        return {
            **base,
            "HOME": str(data),  # Erlang keeps the node's cookie there
            "RABBITMQ_NODENAME": NODE,
            "RABBITMQ_DIST_PORT": str(ports.dist),
            "RABBITMQ_MNESIA_BASE": str(data / "mnesia"),
            "RABBITMQ_LOG_BASE": str(data / "log"),
            "RABBITMQ_PID_FILE": str(data / "rabbitmq.pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(data / "enabled_plugins"),
            "RABBITMQ_CONFIG_FILE": str(data / "rabbitmq"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(data / "none.config"),
            "RABBITMQ_CONF_ENV_FILE": str(data / "none.conf"),
            # Makes the script exec the node, so that a signal reaches the node itself.
            "RABBITMQ_ALLOW_INPUT": "true",
            "RABBITMQ_SERVER_START_ARGS": "-noinput +B i",
            "ERL_INETRC": str(data / "inetrc"),
            "ERL_EPMD_PORT": str(ports.epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            # For every Erlang process of the node: leave no daemon behind, and listen on the loopback.
            # The syslog client gets standard error, because it would open a UDP socket on every interface.
            "ERL_AFLAGS": "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1} "
            "-syslog protocol {rfc3164,standard_error}",
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
