"""Read a test's processes and sockets from /proc, independently of the code under test."""

import ipaddress
import os
import struct
from pathlib import Path

LISTENING = "0A"


def processes_of(folder):
    """Return the pids of all processes, daemons included, that mention `folder`.

    A process mentions it as its working directory, in its arguments or in its environment.
    """
    wanted = os.fsencode(str(folder))
    pids = set()
    for process in Path("/proc").glob("[0-9]*"):
        if int(process.name) == os.getpid():
            continue
        try:
            text = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            text += os.fsencode((process / "cwd").readlink())
        except OSError:
            continue  # ended meanwhile, or owned by another user
        if wanted in text:
            pids.add(int(process.name))
    return pids


def listeners(pids):
    """Return {(address, port)} of every TCP listener and UDP socket of the processes."""
    inodes = {inode for pid in pids for inode in _socket_inodes(pid)}
    addresses = set()
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            accepts = fields[3] == LISTENING or table.startswith("udp")
            if accepts and fields[9] in inodes:
                addresses.add(_address(fields[1]))
    return addresses


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
    """Turn `0100007F:1F90` into ("127.0.0.1", 8080). The kernel prints words in the machine's byte order."""
    address, port = text.split(":")
    raw = bytes.fromhex(address)
    words = struct.unpack(f"={len(raw) // 4}I", raw)
    return str(ipaddress.ip_address(struct.pack(f"!{len(words)}I", *words))), int(port, 16)
