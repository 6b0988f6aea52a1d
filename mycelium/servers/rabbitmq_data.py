"""Write the settings and secrets that a RabbitMQ node reads from its data folder."""

from __future__ import annotations

import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

from mycelium.servers.private_file import write_private
from mycelium.servers.program import free_ports

USER = "mycelium"

# Erlang resolves the node's host name to the loopback, whatever the machine's resolver answers.
NAMES = '{host, {127,0,0,1}, ["localhost"]}.\n{lookup, [file, native]}.\n'


@dataclass(frozen=True)
class Ports:
    """The ports of a node on the loopback. `dist` and `epmd` serve Erlang's distribution."""

    amqp: int
    management: int
    dist: int
    epmd: int

    @classmethod
    def free(cls) -> Ports:
        return cls(*free_ports(4))


def prepare(data: Path, ports: Ports, management: bool, *, listen: str) -> str:
    """Write the node's files. Return the password, which is generated for a new data folder."""
    data.mkdir(parents=True, exist_ok=True)
    data.chmod(stat.S_IRWXU)
    password_file = data / "password"
    if not password_file.exists():
        write_private(password_file, secrets.token_urlsafe(24))
    password = password_file.read_text()
    if not (data / ".erlang.cookie").exists():
        write_private(data / ".erlang.cookie", secrets.token_hex(24))
    (data / "inetrc").write_text(NAMES)
    (data / "enabled_plugins").write_text("[rabbitmq_management].\n" if management else "[].\n")
    settings = _settings(ports, password, management, listen)
    write_private(data / "rabbitmq.conf", "".join(f"{key} = {value}\n" for key, value in settings.items()))
    return password


def _settings(ports: Ports, password: str, management: bool, listen: str) -> dict[str, str]:
    settings = {
        "listeners.tcp.1": f"{listen}:{ports.amqp}",
        "default_user": USER,
        "default_pass": password,
        "default_user_tags.administrator": "true",
        "loopback_users": "none",
        # Low limits, so that a full laptop blocks publishers before the machine itself suffers.
        "disk_free_limit.absolute": "50MB",
        "vm_memory_high_watermark.absolute": f"{_memory_limit_mb()}MB",
        "raft.wal_max_size_bytes": "67108864",
        "log.console": "false",
        "log.file.level": "warning",
    }
    if management:
        settings |= {"management.tcp.ip": listen, "management.tcp.port": str(ports.management)}
    return settings


def _memory_limit_mb() -> int:
    """Return a gigabyte, or two fifths of a small machine's memory, which is RabbitMQ's default share."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(1024, memory * 2 // 5 // 2**20)
