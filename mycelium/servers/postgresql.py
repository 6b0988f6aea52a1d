"""A PostgreSQL of our own: the machine's binaries, else Debian's packages."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import socket
import stat
import struct
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mycelium.servers.debian import Say, environment_of, unpacked
from mycelium.servers.owner import Owner
from mycelium.servers.private_file import write_private
from mycelium.servers.program import Program, ServerError, free_port

USER = "mycelium"
COMMAND_TIMEOUT_SECONDS = 60.0
STOP_SECONDS = 15.0
READY_TIMEOUT_SECONDS = 0.9
PROTOCOL_3 = 196608
MAX_SOCKET_FOLDER_LENGTH = 80  # sun_path holds 108 bytes, and the socket's own name is in it

# Compiling queries at run time takes libllvm, a hundred megabytes; it is switched off instead.
# The wrappers that manage clusters for root are not needed either.
NOT_NEEDED = (
    "libllvm*", "libz3*", "postgresql-common", "postgresql-client-common", "*perl*", "libsensors*",
    "adduser", "debconf*", "locales", "netbase", "openssl", "sensible-utils", "ssl-cert", "ucf",
)  # fmt: skip

NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


@dataclass(frozen=True)
class PostgreSQL:
    """A server that can be started, and where it answers."""

    program: Program
    port: int
    password: str
    psql: Path

    @property
    def programs(self) -> tuple[Program, ...]:
        return (self.program,)

    def url_for(self, database: str) -> str:
        return f"postgresql+psycopg2://{USER}:{self.password}@127.0.0.1:{self.port}/{database}"

    def is_ready(self) -> bool:
        """Whether it takes log-ins (it refuses them while it recovers); known within a second."""
        hello = struct.pack("!I", PROTOCOL_3) + f"user\0{USER}\0database\0postgres\0\0".encode()
        try:
            with socket.create_connection(("127.0.0.1", self.port), READY_TIMEOUT_SECONDS / 2) as connection:
                connection.settimeout(READY_TIMEOUT_SECONDS / 2)
                connection.sendall(struct.pack("!I", len(hello) + 4) + hello)
                return connection.recv(1) == b"R"  # "R": now prove who you are; "E": not yet
        except OSError:
            return False

    def create_database(self, name: str) -> None:
        """Create it unless it is there; raises ServerError. The server must be ready."""
        statement = (
            "SELECT format('CREATE DATABASE %I', :'name')"
            " WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'name') \\gexec\n"
        )
        command = (str(self.psql), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-v", f"name={name}",
                   "-h", "127.0.0.1", "-p", str(self.port), "-U", USER, "postgres")  # fmt: skip
        _run(command, {**self.program.environment, "PGPASSWORD": self.password}, standard_input=statement)


@dataclass(frozen=True)
class Installation:
    """The binaries; they can run any number of servers, each in a data folder of its own."""

    binaries: Path
    environment: Mapping[str, str]

    def server(self, data: Path, port: int | None = None, *, durable: bool = True) -> PostgreSQL:
        """Prepare the data folder (about a second for a new one) and describe the server.

        `durable=False` trades surviving a power cut for speed. Raises ServerError.
        """
        data, port = data.resolve(), port or free_port()
        data.mkdir(parents=True, exist_ok=True)
        if not (data / "password").exists():
            write_private(data / "password", secrets.token_urlsafe(24))
        password = (data / "password").read_text()
        owner = Owner.of(data, also_reads=self.binaries)
        cluster = data / "cluster"
        if not cluster.exists():
            self._initialise(cluster, owner, password, durable)
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            "unix_socket_directories": str(cluster) if len(str(cluster)) <= MAX_SOCKET_FOLDER_LENGTH else "",
            "max_connections": "200",
            "jit": "off",
            "timezone": "GMT",  # the one zone that it knows without the files of tzdata
            "log_timezone": "GMT",
            **({} if durable else NOT_DURABLE),
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = (str(self.binaries / "postgres"), "-D", str(cluster), *options)
        program = Program(
            name="postgresql",
            command=(*owner.prefix, *command),
            directory=Path("/"),
            environment=self.environment,
            stop_signal=signal.SIGINT,  # leave at once; on SIGTERM it waits for its clients to go
            stop_seconds=STOP_SECONDS,
        )
        return PostgreSQL(program, port, password, self.binaries / "psql")

    def _initialise(self, cluster: Path, owner: Owner, password: str, durable: bool) -> None:
        """Under another name first, so that an interrupted one is not taken for a finished one."""
        unfinished = cluster.with_name("cluster.new")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=stat.S_IRWXU)
        password_file = unfinished.with_name("password.new")
        write_private(password_file, password + "\n")
        owner.give(unfinished, password_file)
        command = [str(self.binaries / "initdb"), "-D", str(unfinished), "-U", USER, "-A", "scram-sha-256",
                   f"--pwfile={password_file}", "-E", "UTF8", "--locale=C", "--no-instructions"]  # fmt: skip
        try:
            _run([*owner.prefix, *command, *([] if durable else ["--no-sync"])], self.environment)
        finally:
            password_file.unlink()
        unfinished.rename(cluster)


def find_or_fetch(cache: Path, say: Say, *, use_machine: bool = True) -> Installation:
    """The newest of the machine's, else Debian's packages; raises ServerError when there is neither.

    `use_machine=False` passes over what is installed.
    """
    if use_machine and (binaries := _of_machine()):
        return Installation(binaries, {})
    root = unpacked("postgresql", ["postgresql"], cache, say, family="postgresql-*[0-9]", drop=NOT_NEEDED)
    binaries = _newest(root)
    if binaries is None:
        raise ServerError(f"The packages in {root} hold no PostgreSQL server")
    return Installation(binaries, environment_of(root))


def _of_machine() -> Path | None:
    if newest := _newest(Path("/")):
        return newest
    found = shutil.which("initdb")
    return Path(found).resolve().parent if found else None


def _newest(root: Path) -> Path | None:
    def version(binaries: Path) -> int:
        return int(binaries.parent.name)

    found = (path.parent for path in root.glob("usr/lib/postgresql/*/bin/initdb"))
    return max((path for path in found if path.parent.name.isdigit()), key=version, default=None)


def _run(command: Sequence[str], environment: Mapping[str, str], standard_input: str = "") -> None:
    try:
        subprocess.run(
            command,
            env={**os.environ, "LC_ALL": "C", **environment},
            cwd="/",  # where any user may be
            input=standard_input,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_SECONDS,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        program = next(part for part in command if re.search(r"/(initdb|psql)$", part))
        raise ServerError(f"{program} failed: {(error.stderr or error.stdout).strip()}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServerError(f"{command[0]} failed: {error}") from error
