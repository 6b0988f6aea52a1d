"""What the kernel says about the processes that a test has started; independent of the code under test."""

import ipaddress
import os
import struct
from pathlib import Path

LISTENING = "0A"


def processes_of(folder):
    """The pids of all processes that work in `folder` or were told of it, daemons as well."""
    told = os.fsencode(str(folder))
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        if int(process.name) == os.getpid():
            continue
        try:
            known = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            known += os.fsencode((process / "cwd").readlink())
        except OSError:
            continue  # it has just ended, or belongs to somebody else
        if told in known:
            found.add(int(process.name))
    return found


def listeners(pids):
    """{(address, port)} of every socket, TCP or UDP, on which the processes accept what others send."""
    inodes = {inode for pid in pids for inode in _socket_inodes(pid)}
    found = set()
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            accepts = fields[3] == LISTENING or table.startswith("udp")
            if accepts and fields[9] in inodes:
                found.add(_address(fields[1]))
    return found


def is_loopback(address):
    parsed = ipaddress.ip_address(address)
    return (getattr(parsed, "ipv4_mapped", None) or parsed).is_loopback


def _socket_inodes(pid):
    try:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            target = str(descriptor.readlink())
            if target.startswith("socket:["):
                yield target[len("socket:[") : -1]
    except OSError:
        return


def _address(text):
    """`0100007F:1F90` -> ("127.0.0.1", 8080): the kernel prints words in the order of the machine."""
    address, port = text.split(":")
    raw = bytes.fromhex(address)
    words = struct.unpack(f"={len(raw) // 4}I", raw)
    return str(ipaddress.ip_address(struct.pack(f"!{len(words)}I", *words))), int(port, 16)
