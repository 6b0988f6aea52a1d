"""A private PostgreSQL server, from the installed binaries or from Debian's packages."""

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
MAX_SOCKET_FOLDER_LENGTH = 80  # sun_path holds 108 bytes, the socket's name included

# libllvm (100 MB) serves only JIT compilation of queries, which is switched off. The perl wrappers serve only
# clusters that root manages.
NOT_NEEDED = (
    "libllvm*", "libz3*", "postgresql-common", "postgresql-client-common", "*perl*", "libsensors*",
    "adduser", "debconf*", "locales", "netbase", "openssl", "sensible-utils", "ssl-cert", "ucf",
)  # fmt: skip

NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


@dataclass(frozen=True)
class PostgreSQL:
    """A server that can be started, with its port and password."""

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
        """Return whether the server accepts logins, which it refuses during recovery. Takes 0.9 s at most.

        The startup message is written here, because libpq waits for two whole seconds at least.
        """
        startup = struct.pack("!I", PROTOCOL_3) + f"user\0{USER}\0database\0postgres\0\0".encode()
        try:
            with socket.create_connection(("127.0.0.1", self.port), READY_TIMEOUT_SECONDS / 2) as connection:
                connection.settimeout(READY_TIMEOUT_SECONDS / 2)
                connection.sendall(struct.pack("!I", len(startup) + 4) + startup)
                return connection.recv(1) == b"R"  # "R" asks for the password, "E" refuses the login
        except OSError:
            return False

    def create_database(self, name: str) -> None:
        """Create the database unless it exists. The server must be ready. Raises ServerError."""
        statement = (
            "SELECT format('CREATE DATABASE %I', :'name')"
            " WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'name') \\gexec\n"
        )
        command = (str(self.psql), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-v", f"name={name}",
                   "-h", "127.0.0.1", "-p", str(self.port), "-U", USER, "postgres")  # fmt: skip
        _run(command, {**self.program.environment, "PGPASSWORD": self.password}, standard_input=statement)


@dataclass(frozen=True)
class Installation:
    """Installed or fetched binaries. They can run any number of servers, each on its own data folder."""

    binaries: Path
    environment: Mapping[str, str]

    def server(self, data: Path, port: int | None = None, *, durable: bool = True) -> PostgreSQL:
        """Prepare the data folder and return the server. A new folder takes about a second.

        `durable=False` is faster, but loses commits in a power cut. Raises ServerError.
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
        settings = _settings(cluster, port, durable)
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = (str(self.binaries / "postgres"), "-D", str(cluster), *options)
        program = Program(
            name="postgresql",
            command=(*owner.prefix, *command),
            directory=Path("/"),
            environment=self.environment,
            stop_signal=signal.SIGINT,  # stops at once; SIGTERM would wait until all clients disconnect
            stop_seconds=STOP_SECONDS,
        )
        return PostgreSQL(program, port, password, self.binaries / "psql")

    def _initialise(self, cluster: Path, owner: Owner, password: str, durable: bool) -> None:
        """Create the cluster under another name and rename it, so that it is complete or absent."""
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


def _settings(cluster: Path, port: int, durable: bool) -> dict[str, str]:
    return {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": str(cluster) if len(str(cluster)) <= MAX_SOCKET_FOLDER_LENGTH else "",
        "max_connections": "200",
        "jit": "off",
        "timezone": "GMT",  # the only zone that needs no tzdata files
        "log_timezone": "GMT",
        **({} if durable else NOT_DURABLE),
    }


def find_or_fetch(cache: Path, say: Say, *, use_machine: bool = True) -> Installation:
    """Return the newest installed PostgreSQL, or Debian's packages. Raises ServerError when both fail.

    `use_machine=False` ignores installed binaries.
    """
    if use_machine and (binaries := _installed()):
        return Installation(binaries, {})
    root = unpacked("postgresql", ["postgresql"], cache, say, family="postgresql-*[0-9]", drop=NOT_NEEDED)
    binaries = _newest(root)
    if binaries is None:
        raise ServerError(f"the packages in {root} contain no PostgreSQL server")
    return Installation(binaries, environment_of(root))


def _installed() -> Path | None:
    if newest := _newest(Path("/")):
        return newest
    initdb = shutil.which("initdb")
    return Path(initdb).resolve().parent if initdb else None


def _newest(root: Path) -> Path | None:
    def version(binaries: Path) -> int:
        return int(binaries.parent.name)

    candidates = (path.parent for path in root.glob("usr/lib/postgresql/*/bin/initdb"))
    return max((path for path in candidates if path.parent.name.isdigit()), key=version, default=None)


def _run(command: Sequence[str], environment: Mapping[str, str], standard_input: str = "") -> None:
    try:
        subprocess.run(
            command,
            env={**os.environ, "LC_ALL": "C", **environment},
            cwd="/",  # any user may enter it
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
